"""The connected workstation: ledger, requests, delivery, receipts.

Only this package may load a network module.
"""
