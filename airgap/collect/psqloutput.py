"""What psql writes beside a table: the lines of a start file (psqlrc), footers, and errors.

LangSmith's script runs psql without ``-X``, so a psqlrc's messages stand in the CSV file. Only lines
that psql words itself are known, each in full: a line that nobody knows is never passed over.
Source: psql's ``printPsetInfo`` and ``PrintTiming``; measured with psql 15.
"""

import re

_NOISE = re.compile(
    r"Timing is (on|off)\."
    r"|Time: \d+[.,]\d{3} ms( \([0-9 d:.,]+\))?"
    r"|Pager is used for long output\.|Pager is always used\.|Pager usage is off\."
    r"|Pager won't be used for less than \d+ lines?\."
    r"|Expanded display is (on|off)\.|Expanded display is used automatically\."
    r'|Null display is "(?P<null>[^"]{0,40})"\.'
    r"|Border style is \d\.|Line style is (ascii|old-ascii|unicode)\."
    r"|Unicode (border|column|header) line style is \"(single|double)\"\."
    r"|Output format is csv\."
    r"|Default footer is (on|off)\.|Tuples only is off\."
    r"|Locale-adjusted numeric output is off\."
    r'|Field separator is (zero byte|"[^"]{0,8}")\.|Field separator for CSV is "."\.'
    r"|Record separator is (zero byte|<newline>|\"[^\"]{0,8}\")\."
    r"|Target width is (unset|\d+)\.|Title is not set\.|Table attributes unset\."
    r"|\((?P<rows>\d+) rows?\)"
    r"|(SET|RESET|BEGIN|COMMIT|(UPDATE|SELECT) \d+)"
    r"|sep=[,;|\t]"  # Excel's own first line
    r"|[ \t]*",
)
_ERROR = re.compile(
    r"psql(\.bin|\.exe)?: |psql:[^\n]{0,4096}?:\d+: "
    r"|(ERROR|FATAL|PANIC|FEHLER|ERREUR|ERRORE|FATALE?|ОШИБКА)( XX\w{3})?: "
    r"|[^\n,\"]{0,200}: (error|ERROR|FATAL|PANIC): "
)
_REASONS = (
    ('syntax error at or near ":"', "a variable was not given (-v): customer_id, backfill_id"),
    ("canceling statement due to", "the statement took too long"),
    ("permission denied", "the role may not do that"),
    ("authentication failed", "the password was refused"),
    ("connection to server", "the server could not be reached"),
    ("could not connect", "the server could not be reached"),
    ("has no equivalent in encoding", "a text can't be written in the client's encoding"),
    ("invalid byte sequence", "a text is not in the client's encoding"),
    ("does not exist", "a table, column, role or database is not there"),
)  # fmt: skip


def is_noise(line: str) -> bool:
    """Tell whether the line is one that psql writes beside its tables, or blank."""
    return _NOISE.fullmatch(line) is not None


def null_of(line: str) -> str | None:
    """Return what the line says that NULL is printed as, or None where it says nothing of it."""
    match = _NOISE.fullmatch(line)
    return match["null"] if match else None


def rows_of(line: str) -> int | None:
    """Return how many rows a footer such as ``(3 rows)`` counts, or None where it is none."""
    match = _NOISE.fullmatch(line)
    return int(match["rows"]) if match and match["rows"] else None


def is_error(line: str) -> bool:
    """Tell whether psql reports an error with this line."""
    return _ERROR.match(line) is not None


def reason_of(line: str) -> str:
    """Return the sort of error that the line reports, without its text, which may hold values."""
    return next((reason for part, reason in _REASONS if part in line), "its text is in the file")
