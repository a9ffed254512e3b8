"""Model folders on this machine: registry names are resolved to versions, and each version is downloaded once."""

from pathlib import Path

from autonomic.seams.errors import Permanent
from autonomic.workflows.registry.download import download_model, parse_model_uri, resolve_model
from autonomic.workflows.serving.model import check_model_folder


class Models:
    """The models that services need, kept in `folder`. `registry_url` is the MLflow server, "" where there is none."""

    def __init__(self, folder: Path, registry_url: str) -> None:
        self._folder = folder
        self._url = registry_url
        # versions never change, and a watch over drift asks for them again and again
        self._checked: set[Path] = set()

    def resolve(self, uri: str) -> str:
        """The version that `uri` names now: an alias becomes `models:/name/version`, anything else stays as it is.

        Raises:
            Permanent: there is no such model, version or alias.
            Retryable: the registry cannot be asked, and the version is not on this machine.
        """
        name, _, version = parse_model_uri(uri)
        if name and version and (self._folder / name / version).is_dir():
            return uri
        return resolve_model(uri, self._url)

    def fetch(self, uri: str) -> Path:
        """The folder of a resolved model on this machine; downloads it the first time.

        Raises:
            Permanent: it is not there, or it is no model that can be served.
            Retryable: the registry cannot be asked, and the version is not on this machine.
        """
        folder = download_model(uri, self._folder, self._url)
        if folder in self._checked:
            return folder
        try:
            check_model_folder(folder)
        except Permanent as unfit:
            raise Permanent(f"The model {uri} cannot be served: {unfit}") from unfit
        if parse_model_uri(uri)[0]:
            self._checked.add(folder)
        return folder
