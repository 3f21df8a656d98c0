"""``airgap completion``."""

import click
from click.shell_completion import get_completion_class

from airgap.cli.common import Output, airgap_command

PROGRAM = "airgap"
VARIABLE = "_AIRGAP_COMPLETE"
"""The variable by which a shell's script asks what to offer."""


@airgap_command("completion", home=False)
@click.argument("shell", type=click.Choice(("bash", "zsh", "fish")))
@click.pass_context
def command(ctx: click.Context, out: Output, shell: str) -> None:
    """Print the script that makes a shell complete commands, options and names.

    It offers commands, options, files, and from the home the names of keys, sources, recipients and
    profiles.

    \b
    Example:
      airgap completion bash > ~/.local/share/bash-completion/completions/airgap
      airgap completion zsh > ~/.zfunc/_airgap     # a folder of fpath
      airgap completion fish > ~/.config/fish/completions/airgap.fish
    """
    found = get_completion_class(shell)
    assert found is not None
    made = found(ctx.find_root().command, {}, PROGRAM, VARIABLE)
    # Not made.source(): for bash that starts one, to ask for its version.
    script = made.source_template % made.source_vars()
    out.result({"shell": shell, "script": script})
    if not out.as_json:
        click.echo(script)
