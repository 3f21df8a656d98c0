"""What leaves in a bundle, for a person who is to say yes or no.

    facts      what is in it: one pass over its records, in bounded memory
    news       what the source's bundle before did not have
    text       the facts as plain text of 80 columns
    html       the facts as one page with charts
    slip       a sheet of paper that goes along with the stick

Text and page follow from the bundle, what it was compared with, and the release; nothing else. So two
people who review the same bundle read the same sheet, and its SHA-256 can stand in their approvals.
"""
