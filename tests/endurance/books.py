"""What a trial of minutes counts at its end, beside what it should have counted."""

from rich.console import Console
from rich.table import Table

Counts = dict[str, tuple[object, object]]  # what -> (seen, expected; None where anything is right)


def report(title: str, counts: Counts) -> bool:
    """Show what was counted; whether all is as it should be."""
    table = Table("", "counted", "expected", title=title, title_justify="left")
    good = all(expected is None or seen == expected for seen, expected in counts.values())
    for name, (seen, expected) in counts.items():
        table.add_row(name, str(seen), "" if expected is None else str(expected))
    Console().print(table, "[green]as expected[/]" if good else "[red]not as expected[/]")
    return good
