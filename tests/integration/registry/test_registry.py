import json
import uuid
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from autonomic.seams.errors import Permanent, Retryable
from autonomic.seams.plan import Change
from autonomic.workflows.registry.client import Mlflow, NotFound, tags_of
from autonomic.workflows.registry.download import download_model, resolve_model
from autonomic.workflows.registry.effector import RegistryEffector
from autonomic.workflows.registry.register import register_model
from autonomic.workflows.serving.model import save_model

if TYPE_CHECKING:
    from autonomic.cli.embedded.mlflow_server import MlflowServer


@pytest.fixture
def mlflow(mlflow_server: "MlflowServer") -> Iterator[Mlflow]:
    server = Mlflow(mlflow_server.url)
    yield server
    server.close()


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A model folder with more than the model in it."""
    import torch

    made = save_model(
        torch.nn.Flatten(),
        tmp_path / "model",
        architecture="torch.nn:Flatten",
        inputs=[{"name": "image", "datatype": "FP32", "shape": [-1, 1, 28, 28]}],
        outputs=[{"name": "pixels", "datatype": "FP32", "shape": [-1, 784]}],
    )
    (made / "extra").mkdir()
    (made / "extra" / "näme with space.txt").write_text("x")
    return made


@pytest.fixture
def model(mlflow: Mlflow, folder: Path) -> str:
    """A registered model with the versions 1 (champion) and 2 (candidate)."""
    name = f"model-{uuid.uuid4().hex[:8]}"
    register_model(mlflow.url, folder, name, alias="champion")
    register_model(mlflow.url, folder, name, alias="candidate", tags={"drifted_accuracy": "0.9"})
    return name


@pytest.fixture
def change(model: str) -> Callable[..., Change]:
    def make(key: str = "", **to: Any) -> Change:
        key = key or f"key-{uuid.uuid4().hex}"
        return Change(key=key, primitive="promote", target="online/predictor", effector="registry", to={"model": model, **to})

    return make


def test_a_registered_model_comes_back_byte_for_byte_and_mlflow_reads_its_signature(
    mlflow: Mlflow, folder: Path, model: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    cache = tmp_path / "cache"
    fetched = download_model(f"models:/{model}@candidate", cache, mlflow.url)
    assert fetched == cache / model / "2"
    for file in (path for path in folder.rglob("*") if path.is_file()):
        assert (fetched / file.relative_to(folder)).read_bytes() == file.read_bytes()
    assert tags_of(mlflow.version(model, "2"))["drifted_accuracy"] == "0.9"

    monkeypatch.setenv("MLFLOW_DISABLE_TELEMETRY", "true")
    from mlflow.models.model import Model

    signature = Model.load(str(fetched)).signature
    assert signature is not None
    assert signature.inputs.input_names() == ["image"]
    assert signature.inputs.to_dict()[0]["tensor-spec"] == {"dtype": "float32", "shape": (-1, 1, 28, 28)}
    assert signature.outputs.to_dict()[0]["tensor-spec"] == {"dtype": "float32", "shape": (-1, 784)}


def test_a_version_in_the_cache_needs_no_registry(mlflow: Mlflow, model: str, tmp_path: Path) -> None:
    fetched = download_model(f"models:/{model}/1", tmp_path / "cache", mlflow.url)
    away = "http://127.0.0.1:9"
    assert download_model(f"models:/{model}/1", tmp_path / "cache", away) == fetched
    with pytest.raises(Retryable, match="cannot be reached"):
        download_model(f"models:/{model}/2", tmp_path / "cache", away)
    assert [path.name for path in (tmp_path / "cache" / model).iterdir()] == ["1"]


def test_what_is_not_in_the_registry_is_named_with_what_is(mlflow: Mlflow, model: str, tmp_path: Path) -> None:
    with pytest.raises(NotFound, match=f"no model 'nothing'; it has .*{model}"):
        download_model("models:/nothing@champion", tmp_path, mlflow.url)
    with pytest.raises(NotFound, match="no alias 'nothing'; it has candidate, champion"):
        resolve_model(f"models:/{model}@nothing", mlflow.url)
    with pytest.raises(NotFound, match="no version '9'; it has 1, 2"):
        resolve_model(f"models:/{model}/9", mlflow.url)
    with pytest.raises(Permanent, match="no MLflow server here"):
        resolve_model(f"models:/{model}/9", "")
    assert resolve_model(f"models:/{model}@champion", mlflow.url) == f"models:/{model}/1"


def test_a_folder_that_is_no_model_is_not_registered(mlflow: Mlflow, tmp_path: Path) -> None:
    (tmp_path / "weights.pt").touch()
    with pytest.raises(Permanent, match=r"no model.json \(it holds weights.pt\)"):
        register_model(mlflow.url, tmp_path, "no-model")
    assert "no-model" not in mlflow.models()


def test_a_model_that_does_not_load_or_does_not_answer_is_not_registered(mlflow: Mlflow, folder: Path) -> None:
    described = json.loads((folder / "model.json").read_text())
    for change, said in (
        ({"architecture": "torch.nn:Nothing"}, "cannot be imported: AttributeError"),
        ({"outputs": [{"name": "pixels", "datatype": "FP32", "shape": [-1, 3]}]}, r"shape \[1, 784\]; it declares \[-1, 3\]"),
    ):
        (folder / "model.json").write_text(json.dumps(described | change))
        with pytest.raises(Permanent, match=said):
            register_model(mlflow.url, folder, "no-answer")
    assert "no-answer" not in mlflow.models()


def test_a_change_sets_aliases_and_tags_and_says_how_it_was(mlflow: Mlflow, model: str, change: Callable[..., Change]) -> None:
    effector = RegistryEffector(mlflow)
    promote = change(aliases={"champion": "2", "backup": "1", "candidate": ""}, tags={"2": {"judged": "yes"}})
    outcome = effector.apply(promote, fence=1)
    assert outcome.status == "done", outcome.detail
    assert mlflow.aliases(model) == {"champion": "2", "backup": "1"}
    assert tags_of(mlflow.version(model, "2"))["judged"] == "yes"
    assert outcome.before == {
        "model": model,
        "aliases": {"champion": "1", "backup": "", "candidate": "2"},
        "tags": {"2": {"judged": None}},
    }
    revert = change(**{key: value for key, value in outcome.before.items() if key != "model"})
    assert effector.apply(revert, fence=1).status == "done"
    assert mlflow.aliases(model) == {"champion": "1", "candidate": "2"}
    assert "judged" not in tags_of(mlflow.version(model, "2"))


def test_a_key_is_carried_out_once(mlflow: Mlflow, model: str, change: Callable[..., Change]) -> None:
    effector = RegistryEffector(mlflow)
    promote = change(aliases={"champion": "2"})
    assert effector.lookup(promote.key) is None
    outcome = effector.apply(promote, fence=1)
    mlflow.set_alias(model, "champion", "1")
    assert RegistryEffector(mlflow).apply(promote, fence=1) == outcome
    assert mlflow.aliases(model)["champion"] == "1", "a known key changes nothing again"
    assert effector.lookup(promote.key) == outcome
    assert effector.apply(change(aliases={"champion": "1"}), fence=1).status == "unchanged"


def test_a_lower_fence_is_refused_also_by_another_process(mlflow: Mlflow, model: str, change: Callable[..., Change]) -> None:
    assert RegistryEffector(mlflow).apply(change(aliases={"champion": "2"}), fence=7).status == "done"
    late = RegistryEffector(mlflow).apply(change(aliases={"champion": "1"}), fence=6)
    assert late.status == "refused"
    assert "the fence 6 is lower than 7" in late.detail
    assert mlflow.aliases(model)["champion"] == "2"


def test_a_change_broken_off_in_the_middle_is_ended_and_still_knows_the_state_before(
    mlflow: Mlflow, model: str, change: Callable[..., Change]
) -> None:
    class Dies(Mlflow):
        def set_alias(self, name: str, alias: str, version: str) -> None:
            super().set_alias(name, alias, version)
            raise KeyboardInterrupt

    promote = change(aliases={"champion": "2", "backup": "1"})
    dying = Dies(mlflow.url)
    with pytest.raises(KeyboardInterrupt):
        RegistryEffector(dying).apply(promote, fence=1)
    dying.close()
    assert mlflow.aliases(model) == {"champion": "2", "candidate": "2"}
    outcome = RegistryEffector(mlflow).apply(promote, fence=1)
    assert outcome.status == "done"
    assert outcome.before["aliases"] == {"champion": "1", "backup": ""}
    assert mlflow.aliases(model) == {"champion": "2", "backup": "1", "candidate": "2"}
    assert not [key for key in mlflow.model_tags(model) if key.startswith("autonomic.intent.")]


@pytest.mark.parametrize(
    ("to", "said"),
    [
        ({"aliases": {"champion": "99"}}, "has no version '99'; it has 1, 2"),
        ({"tags": {"99": {"a": "b"}}}, "has no version '99'; it has 1, 2"),
        ({"model": "nothing"}, "has no model 'nothing'"),
        ({"alias": {}}, "Extra inputs are not permitted"),
    ],
)
def test_what_can_never_work_is_refused_and_nothing_is_changed(
    mlflow: Mlflow, model: str, change: Callable[..., Change], to: dict[str, Any], said: str
) -> None:
    outcome = RegistryEffector(mlflow).apply(change(**to), fence=1)
    assert outcome.status == "refused"
    assert said in outcome.detail
    assert mlflow.aliases(model) == {"champion": "1", "candidate": "2"}


def test_a_registry_that_is_away_is_retryable(model: str, change: Callable[..., Change]) -> None:
    away = Mlflow("http://127.0.0.1:9")
    with pytest.raises(Retryable, match="cannot be reached"):
        RegistryEffector(away).apply(change(aliases={"champion": "2"}), fence=1)
    away.close()
