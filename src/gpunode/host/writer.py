"""Changing the machine: the one door. Each verb is in the journal, inverse and all, before it acts."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial

from gpunode.errors import GpunodeError
from gpunode.host.journal import Entry, Journal
from gpunode.host.kubectl import Access, Object
from gpunode.host.machine import Machine, OnBytes, OnLine
from gpunode.host.packages.base import Spec
from gpunode.host.reader import Network, Reader
from gpunode.host.state import Store
from gpunode.host.verbs import VERBS
from gpunode.host.verbs.base import Hands, Taken, Verb
from gpunode.host.verbs.files import MakeDirectory, MakeLink, RemoveFile, WriteFile
from gpunode.host.verbs.installer import RunInstaller
from gpunode.host.verbs.objects import ApplyObject
from gpunode.host.verbs.packages import HoldPackages, InstallPackages
from gpunode.host.verbs.refresh import Refresh
from gpunode.host.verbs.services import EnableService, LoadModule, RestartService, StopService, UnloadModule


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

    def install_packages(self, manager: str, specs: tuple[Spec, ...], *, reinstall: tuple[str, ...] = ()) -> None:
        """Bring packages to versions. Packages that gpunode holds may be changed, others' holds are respected."""
        self._perform(InstallPackages(manager, specs, reinstall, self._held_by_gpunode()))

    def hold_packages(self, manager: str, names: tuple[str, ...]) -> None:
        """Hold packages at their version."""
        self._perform(HoldPackages(manager, names))

    def enable_service(self, unit: str) -> None:
        """Enable a unit and start it now."""
        self._perform(EnableService(unit))

    def restart_service(self, unit: str, *, timeout: float) -> None:
        """Restart a unit and wait until it is up, at most `timeout` seconds. Raises CommandError with its log lines."""
        self._perform(RestartService(unit, timeout))

    def stop_service(self, unit: str) -> None:
        """Stop a unit, for as long as something else needs it stopped."""
        self._perform(StopService(unit))

    def load_module(self, module: str) -> None:
        """Load a kernel module."""
        self._perform(LoadModule(module))

    def unload_module(self, module: str) -> None:
        """Unload a kernel module. Raises CommandError when it is in use."""
        self._perform(UnloadModule(module))

    def run_installer(
        self,
        source: str,
        *,
        sha256: str,
        arguments: tuple[str, ...],
        uninstaller: tuple[str, ...],
        record: str,
        log: str,
    ) -> None:
        """Verify and run a vendor's self-extracting installer."""
        self._perform(RunInstaller(source, sha256, arguments, uninstaller, record, log))

    def apply_object(self, access: Access, manifest: Object) -> None:
        """Apply a Kubernetes object under gpunode's field manager."""
        self._perform(ApplyObject(access, manifest))

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
                if entry.verb == RestartService.name and entry.intent["unit"] == unit and entry.state == "done":
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
