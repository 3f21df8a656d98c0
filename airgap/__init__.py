"""airgap: usage reports of isolated LangSmith and LangGraph sites, carried by hand and provable.

For scripts: ``IsolatedHost`` and ``Workstation`` do what the commands do, and raise ``AirgapError``
and its subclasses (``airgap.errors``), which know the exit code and the next step. These names, their
parameters and the attributes of what they return are the public API; all else may change.

``__version__`` is a literal because ``importlib.metadata`` loads network modules, which nothing on
the isolated side needs.
"""

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from airgap.errors import AirgapError
    from airgap.isolated import IsolatedHost
    from airgap.workstation import Workstation

__all__ = ["AirgapError", "IsolatedHost", "Workstation", "__version__"]
__version__ = "0.1.0"

_MODULES = {
    "AirgapError": "airgap.errors",
    "IsolatedHost": "airgap.isolated",
    "Workstation": "airgap.workstation",
}


def __getattr__(name: str) -> Any:
    """Load a public name when it is asked for: the command line starts without them (PEP 562)."""
    if name in _MODULES:
        from importlib import import_module

        return getattr(import_module(_MODULES[name]), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
