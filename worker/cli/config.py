"""`worker config`: the settings in force, and the generated texts about them."""

from __future__ import annotations

from dataclasses import asdict

import click

from worker.cli.options import Options, chosen, global_options
from worker.cli.output import print_json, print_table
from worker.settings_text import env_example, markdown
from worker.settings_text import show as shown


@click.group()
@global_options
def config() -> None:
    """Show the settings, and what they may be."""


@config.command()
@global_options
def show() -> None:
    """Show every setting in force and where it comes from. Secrets are masked."""
    options = Options.current()
    found = shown(chosen(click.get_current_context()), options.flags)
    if options.json:
        print_json([asdict(one) for one in found])
        return
    print_table(
        ["variable", "value", "from"],
        [(one.variable, f"{one.value:g}" if isinstance(one.value, float) else one.value, one.source) for one in found],
    )


@config.command()
@global_options
def env() -> None:
    """Print a .env file with every variable, its meaning and its default."""
    click.echo(env_example(), nl=False)


@config.command()
@global_options
def docs() -> None:
    """Print the settings as a Markdown table."""
    click.echo(markdown(), nl=False)
