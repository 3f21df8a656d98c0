"""Every error that an operator can meet, each with its exit code and its next step.

AirgapError                 1  unexpected
├── UsageError              2  the command was not called as it can be
│   └── NoHomeError         2  there is no home in the folder
├── InputRefusedError       3  a record or file breaks a schema, or holds an unknown name
├── TrustError              4  signature, key, role, source or credential
│   └── SealedError         4  sealed, and the key that opens it is not to be had here
├── DamagedError            5  damaged, or inconsistent with itself
├── PartialDeliveryError    6  dead letters, or records in doubt
├── UnreachableError        7  the beacon or a shared ledger could not be reached; resume later
├── MediumError             8  space, permissions, file system, read-back
├── SequenceError           9  a fork or a gap in a source's chain
├── OverdueError           10  the last confirmed report is older than the limit
└── InterruptedRunError   130  stopped by the operator
"""

from collections.abc import Mapping, Sequence


class AirgapError(Exception):
    """Base of all errors that a command reports without a traceback.

    Args:
        message: what happened, and to which file, record or key; one sentence, no full stop.
        where: file, line or path in the record, where that helps.
        expected: what would have been accepted.
        found: what was there instead; never a credential.
        hint: the next step; the class's own where it is None.
        details: further lines of the same sort, for instance one per violation.
    """

    exit_code = 1
    next_step = "this should not happen: run `airgap --version` and report it with this message"
    """The hint where the raiser gives none."""

    def __init__(
        self,
        message: str,
        *,
        where: str | None = None,
        expected: str | None = None,
        found: str | None = None,
        hint: str | None = None,
        details: Sequence[str] = (),
    ) -> None:
        super().__init__(message)
        self.message = message
        self.where = where
        self.expected = expected
        self.found = found
        self.hint = hint or self.next_step
        self.details = tuple(details)

    def as_json(self) -> dict[str, object]:
        """Return the error as the object that ``--json`` prints."""
        return {
            "error": type(self).__name__,
            "exit_code": self.exit_code,
            "message": self.message,
            "where": self.where,
            "expected": self.expected,
            "found": self.found,
            "hint": self.hint,
            "details": list(self.details),
        }


class UsageError(AirgapError):
    """The command was called in a way that it can't be, or the home is not set up for it."""

    exit_code = 2
    next_step = "see the command's --help"


class NoHomeError(UsageError):
    """There is no home in the folder."""


class InputRefusedError(AirgapError):
    """A record or a file breaks its schema, or holds a name that nobody allowed."""

    exit_code = 3
    next_step = "correct it at its source; nothing was taken over"


class TrustError(AirgapError):
    """A signature, key, role, source or credential is not what the trust store demands."""

    exit_code = 4
    next_step = "nothing was taken over; ask whoever holds the key"


class SealedError(TrustError):
    """A bundle is sealed, and the key that opens it is not here, or its passphrase is not."""


class DamagedError(AirgapError):
    """The file is damaged, or its parts contradict each other."""

    exit_code = 5
    next_step = "copy the file from its origin again; nothing of it was taken over"


class PartialDeliveryError(AirgapError):
    """Some records are dead letters or in doubt; the others are delivered."""

    exit_code = 6
    next_step = "see `airgap ledger list`"


class UnreachableError(AirgapError):
    """The beacon could not be reached or told us to come back, or a shared ledger is out of reach.

    One status for both: nothing is lost, nobody has to decide anything yet, and the cure is the same.
    """

    exit_code = 7
    next_step = "airgap import --resume, once the network is back"


class MediumError(AirgapError):
    """The medium or file system refused: space, permissions, or a read-back that differs."""

    exit_code = 8
    next_step = "use another medium; nothing is lost"


class SequenceError(AirgapError):
    """A source's chain forks, has a gap that matters, or goes back in time."""

    exit_code = 9
    next_step = "find out which of the two is right; nothing was taken over"


class OverdueError(AirgapError):
    """The last confirmed report is older than the limit that the site has set."""

    exit_code = 10
    next_step = "airgap status shows where reports are waiting"


class InterruptedRunError(AirgapError):
    """The operator stopped the command; what was settled is on disk."""

    exit_code = 130
    next_step = "run the command again; it goes on where it stopped"


EXIT_CODES: Mapping[int, tuple[str, str]] = {
    0: ("done", ""),
    1: ("unexpected", "report it"),
    2: ("usage", "see the command's `--help`"),
    3: (
        "input refused: schema, unknown field, not a file",
        "correct it at its source, or `--allow` the name",
    ),
    4: ("signature, key or credential", "compare fingerprints; `airgap trust list`"),
    5: ("damaged or inconsistent", "copy the file again"),
    6: (
        "partly delivered: dead letters, in doubt, refused credential",
        "`airgap ledger list`",
    ),
    7: (
        "beacon or shared ledger unreachable, or it is not the beacon",
        "`airgap import --resume`",
    ),
    8: ("medium: space, permissions, read-back", "another stick; nothing is lost"),
    9: (
        "two bundles claim one place in the chain, a clock went back, or a gap under `--strict`",
        "find out which host is right",
    ),
    10: ("the last confirmed report is overdue (`status --check`)", "`airgap status`"),
    130: ("interrupted", "run it again; it goes on"),
}
"""Every exit status of every command: what it means, and what to do. README and man pages show this."""
