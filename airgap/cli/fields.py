"""``airgap fields``: the field dictionary."""

from dataclasses import asdict

import click

from airgap import catalog, dictionary
from airgap.cli.common import Output, airgap_command
from airgap.errors import UsageError
from airgap.review.text import wrapped
from airgap.text import printable


@airgap_command("fields", home=False)
@click.argument("kinds", nargs=-1, metavar="[KIND]...")
@click.option("--markdown", is_flag=True, help="As a page, of all kinds.")
def command(out: Output, kinds: tuple[str, ...], *, markdown: bool) -> None:
    """Show every field that can leave: why, what it can be, and an example.

    Of all kinds and of what stands around the records, or of those named. What is not shown here
    stops a source, but for tags and measures that the site lets leave with --allow.

    \b
    Example:
      airgap fields
      airgap fields usage_report
    """
    schemas = catalog.load()
    if markdown:
        out.result({"markdown": dictionary.markdown(schemas)})
        if not out.as_json:
            click.echo(dictionary.markdown(schemas), nl=False)
        return
    parts = dictionary.parts(schemas)
    names = [part.name for part in parts]
    for name in kinds:
        if name not in names:
            raise UsageError(
                f"there is no kind {printable(name, 80)}",
                expected=", ".join(names),
                hint="airgap fields shows all",
            )
    chosen = [part for part in parts if not kinds or part.name in kinds]
    out.result({"parts": [asdict(part) for part in chosen]})
    for number, part in enumerate(chosen):
        heading = f"{part.title} ({part.name})"
        out.say(*(("",) if number else ()), heading, "-" * len(heading))
        out.say(*wrapped(part.why, "  "))
        for where in part.goes_to:
            out.say(*wrapped(where, "  sent to   ", "            "))
        if not part.fields:
            out.say("  No field: nothing but the key is in the request.")
        for one in part.fields:
            out.say("", f"  {one.path}")
            example = f" For example {one.example}." if one.example is not None else ""
            out.say(*wrapped(f"{one.why} Can be: {one.form}.{example}".strip(), "      "))
