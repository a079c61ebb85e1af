"""Plug-ins are found by name, imported when they are asked for and not before, and known by a digest of their source."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from types import FunctionType

import pytest

from feature_store import plugins
from feature_store.plugins import PluginError, entry_points_of, load_class, load_plugin, plugin_digest, plugin_names, register_plugin
from tests.feature_store.plugin_packages import install

GROUP = "ctr_kd.teachers"
SOURCE = "class Mine:\n    def fit(self): ...\n    fitted = 1\n\ndef no_class(): ...\n"


@pytest.fixture
def site(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder of installed packages; what is imported from it is forgotten afterwards."""
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setattr(plugins, "_registered", {})
    before = set(sys.modules)
    yield tmp_path
    for name in set(sys.modules) - before:
        if getattr(sys.modules[name], "__file__", None) and str(tmp_path) in str(sys.modules[name].__file__):
            del sys.modules[name]


def test_an_entry_point_is_found_by_its_name_and_imported_when_it_is_loaded(site: Path) -> None:
    install(site, "one_teacher", SOURCE, {GROUP: "mine = one_teacher:Mine", "ctr_kd.readers": "other = one_teacher:Mine"})
    assert entry_points_of(GROUP)["mine"].value == "one_teacher:Mine"
    assert (plugin_names(GROUP), plugin_names("ctr_kd.readers"), plugin_names("ctr_kd.students")) == (["mine"], ["other"], [])
    plugin_digest(GROUP, "mine")
    assert "one_teacher" not in sys.modules
    assert load_plugin(GROUP, "mine").__name__ == "Mine"
    assert load_plugin(GROUP, "one_teacher:Mine") is load_plugin(GROUP, "mine")
    assert isinstance(load_plugin(GROUP, "one_teacher:no_class"), FunctionType)


def test_what_a_program_registers_comes_before_what_is_installed_and_may_be_registered_again(site: Path) -> None:
    install(site, "two_teachers", SOURCE, {GROUP: "mine = two_teachers:Mine"})

    class First: ...

    class Second: ...

    for plugin in (First, Second):
        assert register_plugin(GROUP, "mine")(plugin) is plugin
        assert load_plugin(GROUP, "mine") is plugin
    register_plugin(GROUP, "another")(First)
    assert plugin_names(GROUP) == ["another", "mine"]
    with pytest.raises(PluginError, match="'my teacher' is no name for a teacher"):
        register_plugin(GROUP, "my teacher")


@pytest.mark.parametrize(
    ("source", "said"),
    [
        (
            "import no_such_package",
            "(broken:Mine of broken 1.0) cannot be imported: ModuleNotFoundError: No module named 'no_such_package'; inst",
        ),
        ("raise RuntimeError('out of\\n luck')", "cannot be imported: RuntimeError: out of luck"),
        ("class Mine:", "cannot be imported: IndentationError"),
        ("class Other: ...", "cannot be imported: AttributeError: module 'broken' has no attribute 'Mine'"),
        ("Mine = 3", "'mine' is no class but a int (3)"),
        ("def Mine(): ...", "'mine' is no class but a function"),
        ("class Mine:\n    def fit(self): ...", "'mine' (broken.Mine) has no method 'logits'; it needs fit, logits"),
        ("class Mine:\n    fit = logits = 1", "'mine' (broken.Mine) has no method 'fit'"),
    ],
)
def test_what_is_wrong_with_a_plugin_is_one_line(site: Path, source: str, said: str) -> None:
    install(site, "broken", source, {GROUP: "mine = broken:Mine"})
    with pytest.raises(PluginError) as error:
        load_class(GROUP, "mine", ["fit", "logits"])
    assert said in str(error.value)
    assert "\n" not in str(error.value)


def test_an_unknown_name_is_answered_with_those_that_there_are(site: Path) -> None:
    with pytest.raises(PluginError, match="there is no teacher 'mein'; there are bert, trees; no plug-in is installed"):
        load_plugin(GROUP, "mein", built_in=("bert", "trees"))
    install(site, "three_teachers", SOURCE, {GROUP: "mine = three_teachers:Mine\nyours = three_teachers:Mine"})
    with pytest.raises(PluginError, match="there is no teacher 'mein'; installed plug-ins: mine, yours"):
        load_plugin(GROUP, "mein")
    with pytest.raises(
        PluginError, match=r"'no_such:Mine' cannot be imported: ModuleNotFoundError: .*; install it, or add its folder to PYTHO"
    ):
        load_plugin(GROUP, "no_such:Mine")


def test_two_packages_may_not_share_a_name(site: Path) -> None:
    install(site, "left", SOURCE, {GROUP: "mine = left:Mine"})
    install(site, "right", SOURCE, {GROUP: "mine = right:Mine"})
    with pytest.raises(PluginError, match=r"a teacher 'mine', (left|right) 1.0 .* and (left|right) 1.0 .*: uninstall one of them"):
        entry_points_of(GROUP)


def test_the_digest_is_of_the_version_and_of_every_file_of_the_package(site: Path) -> None:
    package = site / "four_teachers"
    package.mkdir()
    (package / "__init__.py").write_text(SOURCE, encoding="utf-8")
    install(site, "distribution", "", {GROUP: "mine = four_teachers.sub.deep:Mine"})
    (package / "sub").mkdir()
    (package / "sub" / "deep.py").write_text(SOURCE, encoding="utf-8")
    seen = [plugin_digest(GROUP, "mine")]
    assert plugin_digest(GROUP, "mine") == seen[0]
    for file, text in {"beside.py": "a = 1", "words.txt": "cat", "__init__.py": "", "sub/deep.py": "a = 2"}.items():
        (package / file).write_text(text, encoding="utf-8")
        seen.append(plugin_digest(GROUP, "mine"))
    (package / "beside.py").rename(package / "renamed.py")
    seen.append(plugin_digest(GROUP, "mine"))
    (site / "distribution-1.0.dist-info" / "METADATA").write_text(
        "Metadata-Version: 2.1\nName: distribution\nVersion: 2.0\n", encoding="utf-8"
    )
    seen.append(plugin_digest(GROUP, "mine"))
    assert len(set(seen)) == 7
    (package / "__pycache__").mkdir()
    (package / "__pycache__" / "beside.pyc").write_bytes(b"compiled")
    assert plugin_digest(GROUP, "mine") == seen[-1]


def test_what_is_registered_has_the_digest_of_its_file(site: Path) -> None:
    module = site / "of_a_program.py"
    module.write_text(
        "from feature_store.plugins import register_plugin\n@register_plugin('ctr_kd.teachers', 'mine')\n" + SOURCE, encoding="utf-8"
    )
    __import__("of_a_program")
    before = plugin_digest(GROUP, "mine")
    module.write_text("# changed\n", encoding="utf-8")
    assert plugin_digest(GROUP, "mine") != before


def test_what_a_prompt_defines_has_no_source_and_is_refused() -> None:
    program = (
        "from feature_store.plugins import *\nfrom feature_store import plugins\n"
        "@plugins.register_plugin('ctr_kd.teachers', 'mine')\nclass Mine: ...\n"
        "try: plugins.plugin_digest('ctr_kd.teachers', 'mine')\nexcept plugins.PluginError as error: print(error)"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert "the teacher 'mine' has no source that can be read" in done.stdout


def test_a_package_that_is_not_there_is_named() -> None:
    with pytest.raises(PluginError, match="there is no package 'nomodule'; install it, or add its folder to PYTHONPATH"):
        plugin_digest(GROUP, "nomodule.teachers:Mine")
