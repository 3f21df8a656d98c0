"""airgap: usage reports of isolated LangSmith and LangGraph sites, carried by hand and provable.

``__version__`` is a literal because ``importlib.metadata`` loads network modules, which nothing on
the isolated side needs.
"""

__version__ = "0.1.0"
