"""In a fork every link points at the fork, with no edit.

The whole book is built, strictly, as a workflow of example-org/example-fork would build
it, which takes about a minute.
"""

import html
import os
import re
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import nbformat
import pytest
from sphinx.errors import ConfigError

ROOT = Path(__file__).parent.parent
sys.path.insert(0, str(ROOT / "book"))

sys.path.insert(0, str(ROOT / "book" / "_ext"))

import check_links  # noqa: E402
import publish  # noqa: E402
import published  # noqa: E402
from publish import address  # noqa: E402

FORK = "example-org/example-fork"
SITE = "https://example-org.github.io/example-fork/"
SHA = "0123456789abcdef0123456789abcdef01234567"
ENVIRONMENT = {
    "GITHUB_REPOSITORY": FORK,
    "GITHUB_SERVER_URL": "https://github.com",
    "GITHUB_REF": "refs/heads/main",
    "GITHUB_SHA": SHA,
    "UNET_EDU_SITE": SITE,
    "UNET_EDU_GISCUS": "R_1 General DIC_1",
}
WHERE = address.Address("https://github.com", FORK, "main", SHA)

# An owner and a name, in every way in which a page or a notebook can name them.
OWNER = re.compile(
    r"(?:github\.com|githubusercontent\.com|colab\.research\.google\.com/github)"
    r"/([\w.${}-]+)/([\w.${}-]+)|(?<![\w-])([\w-]{1,39})\.github\.io(?:/([\w.-]+))?"
)
# Public work that the book cites or downloads.
CITED = {
    *("TylerYep/torchinfo", "wkentaro/pytorch-fcn", "karpathy/2019", "karpathy/"),
    *("stefanknegt/Probabilistic-Unet-Pytorch", "zhixuhao/unet"),
    *("zxaoyou/segmentation_WBC", "SHI-Labs/SGL-Retinal-Vessel-Segmentation"),
}
PLACEHOLDERS = {"OWNER/NAME", "owner/name"}


def owners(text: str) -> set[str]:
    """Return the repositories that a text names, as owner/name."""
    found = set()
    for owner, name, on_pages, path in OWNER.findall(text):
        name = re.sub(r"(\.git)?[.,]*$", "", name or path)
        found.add(f"{owner or on_pages}/{name}")
    return found


def clean_environment() -> dict[str, str]:
    """Return the environment without what a workflow has set."""
    return {
        name: value
        for name, value in os.environ.items()
        if not name.startswith(("GITHUB_", "UNET_EDU_SITE", "UNET_EDU_GISCUS"))
    }


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Build the book in the name of the fork; return the folder of the site."""
    folder = tmp_path_factory.mktemp("fork")
    command = [Path(sys.executable).with_name("jupyter-book"), "build", "-W", "--quiet"]
    command += ["--keep-going", "--path-output", folder, ROOT]
    run = subprocess.run(
        command,
        env=clean_environment() | ENVIRONMENT,
        capture_output=True,
        text=True,
    )
    assert run.returncode == 0, run.stderr[-2000:]
    return folder / "_build" / "html"


@pytest.fixture(scope="module")
def notebooks(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    return publish.publish(tmp_path_factory.mktemp("notebooks"), WHERE)


def links(page: Path) -> list[str]:
    return check_links.read(page).links


def test_the_site_names_no_other_owner(site: Path) -> None:
    pages = [*site.rglob("*.html"), *site.rglob("*.xml"), *site.rglob("*.js")]
    assert len(pages) > 10
    named = set().union(*(owners(page.read_text("utf-8")) for page in pages))
    assert named - CITED == {FORK}


def test_buttons_point_at_the_fork(site: Path) -> None:
    page = links(site / "book" / "03-doubleconv.html")
    url = f"https://github.com/{FORK}"
    assert url in page
    assert f"{url}/edit/main/book/03-doubleconv.ipynb" in page
    assert any(link.startswith(f"{url}/issues/new?") for link in page)
    colab = f"https://colab.research.google.com/github/{FORK}"
    assert f"{colab}/blob/notebooks/book/03-doubleconv.ipynb" in page


def test_edit_links_lead_to_files_of_the_repository(site: Path) -> None:
    found = 0
    for page in site.rglob("*.html"):
        for link in links(page):
            _, _, path = link.partition(f"{FORK}/edit/main/")
            if path:
                found += 1
                assert (ROOT / path).is_file(), f"{page.name}: {link}"
    assert found > 20


def test_every_link_inside_the_site_leads_somewhere(site: Path) -> None:
    assert list(check_links.broken(site, SITE)) == []


def test_only_notebooks_have_a_colab_button(site: Path, notebooks) -> None:
    published = {path.name for path in notebooks}
    for page in site.rglob("*.html"):
        colab = [link for link in links(page) if "colab.research" in link]
        is_notebook = f"{page.stem}.ipynb" in published
        assert len(colab) == is_notebook, page.name
        if colab:
            assert colab[0].rsplit("/", 1)[1] in published


def test_the_page_shows_and_gives_the_published_notebook(site: Path) -> None:
    page = (site / "book" / "03-doubleconv.html").read_text("utf-8")
    assert WHERE.source in html.unescape(re.sub(r"<[^>]+>", "", page))
    given = nbformat.read(site / "_sources" / "book" / "03-doubleconv.ipynb", 4)
    assert WHERE.source in given.cells[1].source


def test_the_published_address_is_the_forks(site: Path) -> None:
    page = (site / "book" / "setup.html").read_text("utf-8")
    assert f'<link rel="canonical" href="{SITE}book/setup.html"' in page


def test_published_notebooks_install_the_fork(notebooks: list[Path]) -> None:
    assert len(notebooks) == len(list((ROOT / "book").glob("*.ipynb"))) > 20
    for path in notebooks:
        notebook = nbformat.read(path, as_version=4)
        nbformat.validate(notebook)
        original = nbformat.read(ROOT / "book" / path.name, as_version=4)
        changed = [
            (new.source, old.source)
            for new, old in zip(notebook.cells, original.cells, strict=True)
            if new != old
        ]
        assert [old for _, old in changed] == [address.SET_UP]
        assert f'"unet_edu @ git+https://github.com/{FORK}@{SHA}",' in changed[0][0]
        assert owners(path.read_text("utf-8")) - CITED == {FORK}


def test_a_student_gets_the_forks_notebook(monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in ENVIRONMENT.items():
        monkeypatch.setenv(name, value)
    assert WHERE.source in address.set_up(address.find())
    build = (ROOT / "assignments" / "build.py").read_text("utf-8")
    assert "address.set_up(address.find())" in build


@pytest.fixture
def bare_environment(monkeypatch: pytest.MonkeyPatch) -> Iterator[pytest.MonkeyPatch]:
    for name in set(os.environ) - set(clean_environment()):
        monkeypatch.delenv(name)
    return monkeypatch


def test_at_home_there_is_no_address(bare_environment) -> None:
    assert address.find() is None
    assert address.set_up(None) == address.SET_UP
    assert owners(address.SET_UP) == set()


@pytest.mark.parametrize(
    ("ref", "branch"),
    [
        ("refs/heads/main", "main"),
        ("refs/heads/feature/gates", "feature/gates"),
        ("refs/tags/v1.0.0", "main"),
        ("refs/pull/7/merge", "main"),
        ("", "main"),
    ],
)
def test_edit_links_point_at_a_branch(ref, branch, bare_environment) -> None:
    bare_environment.setenv("GITHUB_REPOSITORY", FORK)
    bare_environment.setenv("GITHUB_REF", ref)
    assert address.find() == replace(WHERE, branch=branch, revision=branch)


def test_another_server_is_honoured_and_has_no_colab(bare_environment) -> None:
    bare_environment.setenv("GITHUB_REPOSITORY", FORK)
    bare_environment.setenv("GITHUB_SERVER_URL", "https://git.example.edu/")
    found = address.find()
    assert found.source.startswith(f"unet_edu @ git+https://git.example.edu/{FORK}@")
    assert found.colab("book/03-doubleconv") is None


def test_a_notebook_without_the_set_up_cell_is_not_published() -> None:
    notebook = nbformat.v4.new_notebook()
    notebook.cells = [nbformat.v4.new_code_cell("import unet_edu")]
    with pytest.raises(ValueError, match="first code cell is not SET_UP"):
        address.published(nbformat.writes(notebook), WHERE)


def test_the_command_says_what_it_needs(bare_environment, tmp_path: Path) -> None:
    command = [sys.executable, ROOT / "book" / "publish.py", tmp_path / "out"]
    run = subprocess.run(command, capture_output=True, text=True)
    assert run.returncode == 2
    assert "set GITHUB_REPOSITORY to OWNER/NAME" in run.stderr
    bare_environment.setenv("GITHUB_REPOSITORY", FORK)
    run = subprocess.run(command, capture_output=True, text=True, check=True)
    assert f"git+https://github.com/{FORK}@main" in run.stdout
    assert (tmp_path / "out" / "book" / "03-doubleconv.ipynb").is_file()


def sources() -> list[Path]:
    """Return the text files of the repository."""
    command = ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"]
    listed = subprocess.run(command, cwd=ROOT, capture_output=True, check=True).stdout
    paths = [ROOT / name for name in listed.decode().split("\0") if name]
    kinds = (".js", ".css", ".html", ".py", ".md", ".ipynb", ".yml", ".toml", ".bib")
    kinds += (".cff", ".tsv", ".json", ".txt", ".svg", "")
    # The lock names the makers of packages; this file names owners that must be found.
    skipped = {ROOT / "web" / "package-lock.json", Path(__file__)}
    return [p for p in paths if p.suffix in kinds and p not in skipped and p.is_file()]


def test_no_file_names_the_repository() -> None:
    others = {"example-org/example-fork"} | CITED | PLACEHOLDERS
    for path in sources():
        named = owners(path.read_text("utf-8", errors="ignore"))
        assert named <= others, f"{path}: {named - others}"


def test_one_place_knows_the_address() -> None:
    for path in sources():
        text = path.read_text("utf-8", errors="ignore")
        if path.suffix != ".py" or path.parent == ROOT / "tests":
            continue
        asks = re.search(r"(environ|getenv)\W+(get\W+)?GITHUB_", text)
        if asks or "://github.com" in text or "colab.research.google" in text:
            assert path.name == "address.py", path


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("https://github.com/someone/else/edit/main/a.md", {"someone/else"}),
        ("git+https://github.com/someone/else.git@main", {"someone/else"}),
        ("https://someone.github.io/else/page.html", {"someone/else"}),
        (
            "https://colab.research.google.com/github/someone/else/blob/main/a.ipynb",
            {"someone/else"},
        ),
        ("a sentence on github.com, no more", set()),
    ],
)
def test_another_owner_is_found(text: str, found: set[str]) -> None:
    assert owners(text) == found


def test_search_engines_and_cards_are_told_the_forks_address(site: Path):
    listed = (site / "sitemap.xml").read_text(encoding="utf-8")
    assert f"<loc>{SITE}book/05-up.html</loc>" in listed
    assert "search.html" not in listed
    page = (site / "book" / "05-up.html").read_text(encoding="utf-8")
    for name, value in {
        "og:url": f"{SITE}book/05-up.html",
        "og:image": f"{SITE}_static/card.png",
        "og:title": "5 · Up: the way back",
    }.items():
        assert f'<meta property="{name}" content="{value}" />' in page
    assert (site / "_static" / "card.png").is_file()
    assert len(re.findall('<meta name="description"', page)) == 1
    lost = (site / "404.html").read_text(encoding="utf-8")
    assert 'href="/example-fork/book/setup.html"' in lost


def test_comments_wait_for_the_reader(site: Path):
    page = (site / "book" / "05-up.html").read_text(encoding="utf-8")
    assert f'<section class="comments" data-repo="{FORK}" data-repo-id="R_1"' in page
    assert '<script src="https://giscus' not in page
    assert "comments.js" in page


def test_half_set_up_comments_are_refused():
    with pytest.raises(ConfigError, match="expected three words"):
        published.comment_box(FORK, "R_1 General")
