"""Changing the machine: the one door. Each verb is in the journal, inverse and all, before it acts."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from functools import partial

from gpunode.errors import GpunodeError, HostError
from gpunode.host import systemd
from gpunode.host.gpu_pods import GpuPod
from gpunode.host.gpu_users import GpuUser
from gpunode.host.installers import Installer
from gpunode.host.journal import Entry, Journal
from gpunode.host.kubectl import Access, Object
from gpunode.host.machine import Machine, OnBytes, OnLine, Output
from gpunode.host.packages.base import Spec
from gpunode.host.reader import Network, Reader
from gpunode.host.state import Store
from gpunode.host.verbs import VERBS
from gpunode.host.verbs.base import Hands, Json, Taken, Verb
from gpunode.host.verbs.bundle import UnpackBundle
from gpunode.host.verbs.container_images import ImportImages
from gpunode.host.verbs.drain import CordonNode, EndProcesses, EvictPod, PauseService
from gpunode.host.verbs.files import MakeDirectory, MakeLink, RemoveFile, WriteFile
from gpunode.host.verbs.installer import RunInstaller
from gpunode.host.verbs.objects import ApplyObject, DropObject
from gpunode.host.verbs.packages import HoldPackages, InstallPackages
from gpunode.host.verbs.reboot import Reboot
from gpunode.host.verbs.refresh import Refresh
from gpunode.host.verbs.services import (
    AwaitRestart,
    EnableService,
    LoadModule,
    ReloadService,
    RestartService,
    StopService,
    UnloadModule,
)
from gpunode.host.verbs.trust import TrustKey


class Writer(Reader):
    """A Reader that can also change the host, each change journaled under the step and resource it is made for."""

    def __init__(
        self,
        machine: Machine,
        journal: Journal,
        network: Network | None = None,
        *,
        on_line: OnLine | None = None,
        on_bytes: OnBytes | None = None,
    ) -> None:
        super().__init__(machine, network)
        self.journal = journal
        self.hands = Hands(machine, self, Store(machine), on_bytes=on_bytes)
        if on_line:
            self.hands.on_line = on_line
        self._step = ""
        self._resource = ""

    @contextmanager
    def on_behalf_of(self, step: str, resource: str) -> Iterator[None]:
        """Journal what is done inside under this step and resource."""
        outer = self._step, self._resource
        self._step, self._resource = step, resource
        try:
            yield
        finally:
            self._step, self._resource = outer

    def watch(self, argv: Sequence[str], *, timeout: float) -> Output:
        """As `query`, for a question that is long to answer: what it says meanwhile is shown. Raises HostError."""
        return self.query(argv, timeout=timeout, on_line=self.hands.on_line)

    def tell(self, line: str) -> None:
        """Show what is being waited for."""
        self.hands.on_line(line)

    def write_file(
        self, path: str, content: bytes, *, mode: int = 0o644, style: str = "", whole: bool = False
    ) -> Entry | None:
        """Write a whole file, its missing folders made first; None when it was as wanted. `mode` is for a new file, and for one
        that is `whole`ly gpunode's: such a one belongs to root, whatever it was before.

        `style` is how a rollback understands the text when somebody has edited it since (see verbs/images.py).
        """
        self._make_folders(path)
        return self._perform(WriteFile(path, content, mode, style, whole))

    def remove_file(self, path: str) -> None:
        """Remove a file or link; its content is kept."""
        self._perform(RemoveFile(path))

    def make_link(self, path: str, target: str) -> None:
        """Make a symbolic link."""
        self._make_folders(path)
        self._perform(MakeLink(path, target))

    def install_packages(
        self, manager: str, specs: tuple[Spec, ...], *, reinstall: tuple[str, ...] = (), source: str = ""
    ) -> None:
        """Bring packages to versions, those of the source file `source` alone where one is named. Packages that gpunode holds may be
        changed, others' holds are respected.
        """
        self._perform(InstallPackages(manager, specs, reinstall, self._held_by_gpunode(), source))

    def hold_packages(self, manager: str, names: tuple[str, ...]) -> None:
        """Hold packages at their version."""
        self._perform(HoldPackages(manager, names))

    def trust_key(self, path: str, fingerprints: tuple[str, ...]) -> None:
        """Have rpm trust the keys of a file, whose fingerprints have been compared before."""
        self._perform(TrustKey(path, fingerprints))

    def enable_service(self, unit: str) -> None:
        """Enable a unit and start it now."""
        self._perform(EnableService(unit))

    def restart_service(self, unit: str, *, timeout: float, loaded: str = "") -> None:
        """Restart a unit and wait until it is up, at most `timeout` seconds. Raises CommandError with its log lines.

        `loaded` is a digest of the configuration that it reads then (see `journal.loaded_by`).
        """
        entry = self._perform(RestartService(unit, timeout, loaded))
        if entry and loaded:
            self.journal.aside(entry, {"started": systemd.unit(self, unit).started})

    def reload_service(self, unit: str, *, timeout: float) -> None:
        """Have a unit read its configuration again without a restart. Raises CommandError with its log lines."""
        self._perform(ReloadService(unit, timeout))

    def await_restart(self, unit: str, *, socket: str, paths: tuple[str, ...], timeout: float) -> None:
        """Wait until a unit has started its daemon anew, which makes `socket` then and reads `paths`. Raises HostError."""
        self._perform(AwaitRestart(unit, socket, paths, timeout))

    def stop_service(self, unit: str) -> None:
        """Stop a unit, for as long as something else needs it stopped."""
        self._perform(StopService(unit))

    def load_module(self, module: str) -> None:
        """Load a kernel module."""
        self._perform(LoadModule(module))

    def unload_module(self, module: str) -> None:
        """Unload a kernel module. Raises CommandError when it is in use."""
        self._perform(UnloadModule(module))

    def run_installer(self, installer: Installer) -> None:
        """Verify and run a vendor's self-extracting installer. Raises HostError."""
        self._perform(RunInstaller(installer))

    def unpack_bundle(self, path: str, folder: str, *, manifest: str, sha256: str) -> None:
        """Unpack a bundle that was verified, and whose manifest has this sha256, into a folder of its own. Raises HostError.

        `sha256` is the sum of the whole file that it was verified by, empty where its signature vouches for it.
        """
        self._make_folders(folder)
        self._perform(UnpackBundle(path, folder, manifest, sha256))

    def import_images(self, ctr: tuple[str, ...], archive: str, names: tuple[str, ...]) -> None:
        """Load container images from an archive by containerd's client `ctr`. Raises CommandError."""
        self._perform(ImportImages(ctr, archive, names))

    def apply_object(self, access: Access, manifest: Object) -> None:
        """Apply a Kubernetes object under gpunode's field manager."""
        self._perform(ApplyObject(access, manifest))

    def drop_object(self, access: Access, manifest: Object) -> None:
        """Take away a Kubernetes object that gpunode has applied; `manifest` need only name it."""
        self._perform(DropObject(access, manifest))

    @contextmanager
    def cordoned(self, access: Access, node: str) -> Iterator[None]:
        """Have the scheduler send no pods to a node while this lasts. Raises CommandError."""
        with self._meanwhile(CordonNode(access, node)):
            yield

    @contextmanager
    def paused(self, unit: str) -> Iterator[None]:
        """Have a service stopped while this lasts, where it runs. Raises CommandError."""
        with self._meanwhile(PauseService(unit)):
            yield

    def evict_pod(self, access: Access, pod: GpuPod, *, timeout: float) -> None:
        """Evict a pod, at most `timeout` seconds after its disruption budgets first refused it. Raises CommandError."""
        self._perform(EvictPod(access, pod, timeout))

    def end_processes(self, users: tuple[GpuUser, ...], *, grace: float) -> None:
        """End processes, those that take longer than `grace` seconds by SIGKILL. Raises RebootRequiredError where that fails."""
        self._perform(EndProcesses(users, grace))

    def await_reboot(self, why: str, *, profile: Json, steps: tuple[str, ...]) -> Entry:
        """Record that the run goes on after a reboot, with this profile and these steps. Nothing is rebooted: see `reboot`."""
        intent = Reboot(why, profile, steps).intent(self.hands)
        return self.journal.intend(step=self._step, resource=self._resource, verb=Reboot.name, intent=intent)

    def reboot(self, entry: Entry) -> None:
        """Reboot the host. How that ends is known to the run that goes on after it: see `rebooted`. Raises CommandError."""
        Reboot(entry.intent["why"], entry.intent["profile"], tuple(entry.intent["steps"])).act(self.hands, entry.intent)

    def rebooted(self, entry: Entry) -> None:
        """Record that the host has rebooted."""
        self.journal.outcome(entry, "done")

    @contextmanager
    def refreshing(self, *what: str) -> Iterator[None]:
        """Make derived things anew after what is done inside. Recorded first, so that a crash in between is mended later."""
        entries = [self._intend(Refresh(name)) for name in what]
        yield
        for entry in entries:
            if entry:
                self._act(Refresh(entry.intent["what"]), entry)

    def unproved_write(self, path: str, unit: str) -> Entry | None:
        """The newest standing write of a file after which its daemon has not come back yet; a crash may lie between the two."""
        for record in reversed(self.journal.runs):
            for entry in reversed(record.standing):
                took_up = entry.verb in (RestartService.name, ReloadService.name, AwaitRestart.name)
                if took_up and entry.intent["unit"] == unit and entry.state == "done":
                    return None
                if entry.verb == WriteFile.name and entry.intent["path"] == self.realpath(path):
                    return entry
        return None

    def finish(self, entry: Entry) -> None:
        """Carry out a refresh that an interrupted run had recorded and not done."""
        self._act(Refresh(entry.intent["what"]), entry)

    def take_back(self, entry: Entry, *, force: bool = False) -> Taken:
        """Undo one entry of the journal and record that it was undone."""
        self.hands.force = force
        self.hands.aside = partial(self.journal.aside, entry)
        taken = VERBS[entry.verb].undo(self.hands, entry.intent)
        self.forget()
        self.journal.undone(entry, "; ".join([*taken.left, taken.note]).strip("; "))
        return taken

    def _make_folders(self, path: str) -> None:
        folder = path.rpartition("/")[0]
        missing: list[str] = []
        while folder and self.lstat(folder) is None:
            missing.append(folder)
            folder = folder.rpartition("/")[0]
        for name in reversed(missing):
            self._perform(MakeDirectory(name))

    def _held_by_gpunode(self) -> frozenset[str]:
        return frozenset(
            name
            for record in self.journal.runs
            for entry in record.standing
            if entry.verb == HoldPackages.name
            for name in entry.intent["names"]
        )

    def _perform(self, verb: Verb) -> Entry | None:
        entry = self._intend(verb)
        if entry:
            self._act(verb, entry)
        return entry

    @contextmanager
    def _meanwhile(self, verb: Verb) -> Iterator[None]:
        """Do it, and take it back after what is done inside, however that ends; after a crash, the next run takes it back."""
        entry = self._intend(verb)
        try:
            if entry:
                self._act(verb, entry)
            yield
        except GpunodeError as error:
            try:
                self._end(entry)
            except GpunodeError as second:  # the first is what a person must hear of
                error.details += (second.message,)
            raise
        except KeyboardInterrupt:
            self._end(entry)
            raise
        self._end(entry)

    def _end(self, entry: Entry | None) -> None:
        taken = self.take_back(entry) if entry else Taken()
        if taken.left:
            raise HostError("; ".join(taken.left), hint="see its log, and start it by hand")

    def _intend(self, verb: Verb) -> Entry | None:
        intent = verb.intent(self.hands)
        if intent is None:
            return None
        return self.journal.intend(step=self._step, resource=self._resource, verb=verb.name, intent=intent)

    def _act(self, verb: Verb, entry: Entry) -> None:
        try:
            verb.act(self.hands, entry.intent)
        except GpunodeError as error:
            self.forget()
            self.journal.outcome(entry, "failed", error.message)
            raise
        self.forget()
        self.journal.outcome(entry, "done")
