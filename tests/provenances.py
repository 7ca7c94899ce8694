"""The provenance of runs that tests write by hand."""

from __future__ import annotations

from pathlib import Path

from ltgc_local.runs.provenance import write_provenance_file
from ltgc_local.runs.schemas import ModelFile, ProvenanceFile


def write_provenance(
    root: Path, evidence: str, roles: tuple[str, ...] = ("clip",), digest: str = "0123", seed: int = 0
) -> None:
    """Write what a small run of these roles' models says of itself."""
    models = {
        role: ModelFile(card=f"tiny-{role}", evidence=evidence, license="Apache-2.0", digest="ab" * 32)
        for role in roles
    }
    provenance = ProvenanceFile(
        ltgc_local="0.1.0",
        date="2026-11-01",
        command="ltgc-local run recipes/small.yaml",
        seed=seed,
        python="3.11.2",
        machine="Linux x86_64, 2 cores",
        packages={"torch": "2.13.0", "numpy": "2.4.0"},
        data_digest=digest,
        models=models,
    )
    write_provenance_file(root, provenance)
