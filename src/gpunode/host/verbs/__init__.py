"""Every verb by the name that the journal uses."""

from __future__ import annotations

from gpunode.host.verbs.base import Verb
from gpunode.host.verbs.files import MakeDirectory, MakeLink, RemoveFile, WriteFile
from gpunode.host.verbs.installer import RunInstaller
from gpunode.host.verbs.objects import ApplyObject
from gpunode.host.verbs.packages import HoldPackages, InstallPackages
from gpunode.host.verbs.refresh import Refresh
from gpunode.host.verbs.services import EnableService, LoadModule, RestartService, StopService, UnloadModule

VERBS: dict[str, type[Verb]] = {
    verb.name: verb
    for verb in (
        WriteFile,
        RemoveFile,
        MakeLink,
        MakeDirectory,
        InstallPackages,
        HoldPackages,
        EnableService,
        RestartService,
        StopService,
        LoadModule,
        UnloadModule,
        Refresh,
        RunInstaller,
        ApplyObject,
    )
}
