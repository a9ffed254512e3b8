"""What of ours was deleted by hand is made again: the memory, code packages, Secrets, and what goes with Deployments and services."""

import logging
import threading
from collections.abc import Callable, Collection

from autonomic.platforms.kubernetes.objects import manifests, names
from autonomic.platforms.kubernetes.objects.api import CONFIG_MAPS, SECRETS, Api
from autonomic.platforms.kubernetes.objects.packages import Packages
from autonomic.platforms.kubernetes.objects.store import ConfigMapStore
from autonomic.platforms.kubernetes.objects.watch import Object, Watch
from autonomic.platforms.kubernetes.services.apps import KubernetesApps
from autonomic.platforms.kubernetes.services.exposure import ExposedRoutes
from autonomic.platforms.kubernetes.settings import KubernetesSettings
from autonomic.seams.clock import Clock

_EVERY_SECONDS = 30.0
_log = logging.getLogger(__name__)


class Healing:
    """Looks at once where a ConfigMap of ours goes, and at everything now and then. `start` and `close` once each.

    `used` are the digests of the code packages that something runs from, `apps_in_service` the names of the applications.
    """

    def __init__(
        self,
        settings: KubernetesSettings,
        api: Api,
        clock: Clock,
        store: ConfigMapStore,
        packages: Packages,
        apps: KubernetesApps,
        routes: ExposedRoutes,
        used: Callable[[], Collection[str]],
        apps_in_service: Callable[[], Collection[str]],
    ) -> None:
        self._settings = settings
        self._api = api
        self._clock = clock
        self._store = store
        self._packages = packages
        self._apps = apps
        self._routes = routes
        self._used = used
        self._apps_in_service = apps_in_service
        mine = names.selector(names.labels(settings.installation))
        self._memory = Watch(api, CONFIG_MAPS._replace(metadata_only=True), mine, self._changed)
        self._gone = threading.Event()
        self._next = clock.monotonic()

    def start(self) -> None:
        """Begins to watch."""
        self._memory.start()

    def close(self) -> None:
        """Ends the watch."""
        self._memory.close()

    def _changed(self, before: Object | None, now: Object | None) -> None:
        if before is not None and now is None:
            self._gone.set()

    def look(self) -> bool:
        """Makes what is missing again, where it is time to look; True where everything was looked at.

        Raises:
            Lost: a younger writer is at work.
            Retryable: the API server does not answer; it is to be called again.
            Permanent: a right is missing.
        """
        is_time = self._clock.monotonic() >= self._next
        if self._memory.missing or not (is_time or self._gone.is_set()):
            return False
        self._gone.clear()
        present = frozenset(self._memory.all())
        try:
            for group in self._store.heal(present):
                _log.warning("the ConfigMap of %s was deleted by somebody else, and is written again", group)
            for digest in self._packages.heal(present, self._used()):
                _log.error("the code package %s was deleted by somebody else and is kept nowhere else: apply its workflow again", digest)
        except BaseException:
            self._gone.set()
            raise
        if not is_time:
            return False
        self._next = self._clock.monotonic() + _EVERY_SECONDS
        for secret in manifests.secrets(self._settings):
            if self._api.get(SECRETS, secret["metadata"]["name"]) is None:
                self._api.apply(SECRETS, secret)
        self._apps.heal_companions(self._apps_in_service())
        self._routes.look_again()
        return True
