"""What the documentation tells people to type, and where it sends them, exists."""

from __future__ import annotations

import re

import pytest

from tests.unit.docs_support import Page, read, wrong_commands, wrong_links, wrong_targets
from tests.unit.test_repository import ROOT, tracked
from worker.settings import SET_BY_US, Settings, variable

KNOWN = {path.resolve() for path in tracked()}
PAGES = [read(path) for path in sorted(KNOWN) if path.suffix == ".md"]

VARIABLES = {variable(name) for name in Settings.model_fields} | SET_BY_US
OTHER_VARIABLES = {
    r"WORKER_TEST_[A-Z0-9_]+": "settings of the tests",
    r"WORKER_NAME": "stands for any setting, in infra/boot",
}
"""Patterns of names that are no settings of the worker, each with what they are."""

MODULES = ("worker", "jobs", "benchmarks", "providers", "tests", "scripts")
FOLDERS = "|".join((*MODULES, "docs", "infra", "requirements"))

EVENTS = set(re.findall(r"`([a-z]+\.[a-z_]+)`", (ROOT / "docs/events.md").read_text()))
METRICS = set(re.findall(r"^\| `(worker_[a-z_]+)`", (ROOT / "docs/metrics.md").read_text(), re.MULTILINE))

OTHER_NAMES = {
    "message.id",
    "lease.claim",
    "lease.renew",
    "lease.resign",
    "worker_environment",
    "worker_schedule_lateness_seconds",
}
"""What a handler gets, operations of the store, an output of the stacks, and a metric that is said not to exist."""

each_page = pytest.mark.parametrize("page", PAGES, ids=lambda page: page.path.relative_to(ROOT).as_posix())


def targets() -> set[str]:
    """Every target of the Makefile."""
    rules = re.findall(r"^([^\s:#=][^\s:=]*):(?!=)", (ROOT / "Makefile").read_text(), re.MULTILINE)
    return {rule.replace("$(VENV)", ".venv") for rule in rules}


def wrong_variables(page: Page) -> list[str]:
    named = set(re.findall(r"\bWORKER_[A-Z][A-Z0-9_]*", "\n".join([*page.code, page.prose])))
    other = "|".join(OTHER_VARIABLES)
    return sorted(name for name in named - VARIABLES if not re.fullmatch(other, name.rstrip("_") or name))


def wrong_paths(page: Page) -> list[str]:
    """Return the files and modules that a page names as ours, and that are not there."""
    bad = list[str]()
    for code in page.code:
        names = re.findall(rf"(?<![\w./:-])(?:{FOLDERS})/[\w./-]*\w", code)
        bad += [name for name in names if not (ROOT / name).exists() and not name.endswith(".tfvars")]  # yours
        for module in re.findall(r"python[\d.]* -m ([\w.]+)", code):
            place = ROOT / module.replace(".", "/")
            if module.split(".")[0] in MODULES and not (place.with_suffix(".py").exists() or place.is_dir()):
                bad.append(module)
    return bad


@each_page
def test_commands(page: Page) -> None:
    """Every `worker` command in the documentation is one, and has the options that it is given."""
    assert wrong_commands(page) == []


@each_page
def test_targets(page: Page) -> None:
    """Every make target in the documentation is one."""
    assert wrong_targets(page, targets()) == []


@each_page
def test_variables(page: Page) -> None:
    """Every WORKER_ variable in the documentation is a setting."""
    assert wrong_variables(page) == []


@each_page
def test_links(page: Page) -> None:
    """Every relative link in the documentation leads to a file, and its anchor to a heading."""
    assert wrong_links(page, KNOWN) == []


@each_page
def test_paths(page: Page) -> None:
    """Every file and module of ours that the documentation names is there."""
    assert wrong_paths(page) == []


@each_page
def test_events_and_metrics(page: Page) -> None:
    """Every event and metric that is named as code is on the page of its kind."""
    kinds = "|".join(sorted({event.partition(".")[0] for event in EVENTS}))
    events = {code for code in page.code if re.fullmatch(rf"(?:{kinds})\.[a-z_]+", code)}
    metrics = set(re.findall(r"\bworker_[a-z_]+(?=[\s{()\[`]|$)", "\n".join(page.code)))
    assert events - EVENTS - OTHER_NAMES == set()
    assert {re.sub(r"_(bucket|count|sum)$", "", name) for name in metrics} - METRICS - OTHER_NAMES == set()


def test_the_tables_are_read() -> None:
    """The events and metrics that the other tests compare with are really found."""
    assert {"leader.elected", "instance.killed"} <= EVENTS
    assert {"worker_leader_status", "worker_partitions"} <= METRICS
    assert {"test", "demo", ".venv/.test"} <= targets()


def test_faults_are_seen() -> None:
    """A page that is wrong in every way that is looked for is found wrong in each of them."""
    text = """# One

Use `worker statuss`, `worker drain i-1 --now`, `sudo docker exec cloud-worker worker dlq liste orders` and
`make tset`, set `WORKER_LEASES`, see [two](#two), [that](nothing.md) and `worker/nothing.py`.

    worker --json partitions --nxt   # and a comment: worker nonsense
    python -m benchmarks.nothing

    A=1 worker resume && docker exec worker-1 worker staus; sh -c 'worker dlq shw orders'
    the leader ──▶ the worker drains

But `worker status --no-wait`, `worker exec poll -- ./poll.sh --fast`, `make test ARGS="-k x"`
and [one](#one) are right.
"""
    page = read(ROOT / "docs" / "page.md", text)
    assert sorted(wrong_commands(page)) == [
        "worker dlq: no command liste",
        "worker dlq: no command shw",
        "worker drain: no option --now",
        "worker partitions: no option --nxt",
        "worker: no command statuss",
        "worker: no command staus",
    ]
    assert wrong_targets(page, targets()) == ["tset"]
    assert wrong_variables(page) == ["WORKER_LEASES"]
    assert wrong_paths(page) == ["benchmarks.nothing", "worker/nothing.py"]
    assert wrong_links(page, KNOWN) == ["#two: there is no such heading", "nothing.md: there is no such file"]


@pytest.mark.parametrize("name", ["deploy-aws.md", "deploy-azure.md"])
def test_bills_add_up(name: str) -> None:
    """The last line of a cost table is the sum of the lines above it."""
    rows = re.findall(r"^\|.*\| \**([\d.]+)\** \| \**([\d.]+)\** \|$", (ROOT / "docs" / name).read_text(), re.MULTILINE)
    assert len(rows) > 5
    for *parts, total in zip(*rows, strict=True):
        assert round(sum(map(float, parts)), 2) == float(total)


@pytest.mark.parametrize(
    "name, stack", [("deploy-aws.md", "infra/aws/terraform"), ("deploy-azure.md", "infra/azure/terraform")]
)
def test_variables_and_outputs_of_the_stacks(name: str, stack: str) -> None:
    """Every variable and output of a stack that its guide names is one."""
    page = next(page for page in PAGES if page.path.name == name)
    sources = "\n".join(path.read_text() for path in sorted((ROOT / stack).glob("*.tf")))
    variables = set(re.findall(r'^variable "(\w+)"', sources, re.MULTILINE))
    outputs = set(re.findall(r'^output "(\w+)"', sources, re.MULTILINE))
    blocks = [text for language, text in page.fenced if language == "hcl"]
    spans = [match[1] for code in page.code if (match := re.fullmatch(r"([a-z_]+)(?: = .*)?", code))]
    set_in_blocks = set(re.findall(r"^(\w+)\s+=", "\n".join(blocks), re.MULTILINE))
    read = set(re.findall(r"output (?:-raw|-json) (\w+)", "\n".join(page.code)))
    assert {"name", "location", "image", "queues"} <= set_in_blocks <= variables
    assert {"worker_environment"} <= read <= outputs
    assert {span for span in spans if "_" in span} <= variables | outputs
