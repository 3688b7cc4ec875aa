"""Every verb by the name that the journal uses."""

from __future__ import annotations

from gpunode.host.verbs.base import Verb
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

VERBS: dict[str, type[Verb]] = {
    verb.name: verb
    for verb in (
        WriteFile,
        RemoveFile,
        MakeLink,
        MakeDirectory,
        InstallPackages,
        HoldPackages,
        TrustKey,
        EnableService,
        RestartService,
        ReloadService,
        AwaitRestart,
        StopService,
        LoadModule,
        UnloadModule,
        Refresh,
        Reboot,
        RunInstaller,
        UnpackBundle,
        ImportImages,
        ApplyObject,
        DropObject,
        CordonNode,
        EvictPod,
        EndProcesses,
        PauseService,
    )
}
