import base64
import copy
import io
import json
import os
import pickle
import struct
import zipfile
import zlib

import jax.numpy as jnp
import numpy as np
import pytest
from safetensors.numpy import save_file

from gradrev_jax.errors import WeightsError
from gradrev_jax.weights.reader import read_state_dict
from tests.torch_tensors import EXPECTED, assert_same

# What torch 2.14 wrote for {"epoch": 1, "state_dict": ...}, compressed: the state dict of a Linear(2, 2), a
# Parameter, a strided window of a larger tensor, a half, a bfloat16 and an integer.
WRITTEN_BY_TORCH = zlib.decompress(
    base64.b85decode(
        "c-o~_%WoS+7#}}kJ4@m?X&`NY5Z+E{9ecfgq)Fp+X_vwxNDWAai?y~l@e0SAZ#_-`DN-bq@ahE)6<iPpBqSux9LaxxIDnAgf"
        "CLAs3h@^pF*9qsJL4u+ok_-{wdePkneY2%*Y!XUp-2SvwHTU0hEuIuJLY1|z(!*G?S`gC(OX>G_wNCUmqrM{+_tNA@aeviM4"
        "npMz-GB-RWbOhRlCtJtJt!eE$LOKW;$l=D)~i%z(Ns%@luEYc1>%uj$x#VZK9eex3Se|NoB{Zw5>+1jLl}tcFH@l1fh7m6lM"
        "~(V{Dobb|I41unqj0`=tbtl8?+u!e}W##_Dz(Bt3}Xfg3u~{ks1U#>n71gz=B+)I}7-L=j>ovKy#k87-Ks6P<dv?((EysxIk"
        "%3}+br0H$@{0X*npAHpzGgtMhlGI85*j4czJ4xBq?CA}FE%yJqsJnU*b($RR7YRtJBk71ZE!s8#ZhbKOOCyVfuyKh#rX79q&"
        "990^gAyi`+p1q+5-Q~u~5Ilqhm+m}<=ZbKFEw^qoHsGR*?`-9D@>Opq6O2-UMMCMrkfiR2u@wD~UAi;|r3e`o2NlP#nvmuAR"
        "CYG0Y>zX?I5UuUIhQ(|m*~f`%ejK#auHS;XVq>uF%&q?m+j_ek8h3fW#Nj;rxLz}&QhPpaJ2~6+Iyg}6DpI<H)uq|3+(snB^"
        "vJV;vT%j!fMBKS|n0I*L|&4tI|%a>*2`lpWnRsmmeY8*N@Ga8S>Z7nZ$<eY#F%Rq0`heLh7)VqU7KI`}_OUKJCYo&!XI2@=o"
        "lRjfS<^+%lV3Q`7h2AJno6HBi`v+hk$Lf1-g&ROlI~yo*hnX0oO(52M>{4GZIjNj)4~{_`A-=g^5BqG*+?N{dNNy>to#2<;a"
        "L?Hc(feSeKQd42kuPhzYBp6o>7ouo81iSA$jE24YEbYtkw7gQ)RKzD`Ll{GbwhF||5L?2zD`d|O^%K0Jm)2Gv?jX#6#o^-vD"
        "lOTPb^d$57&fdmqlGgSCKBsw~il)Z;e4;#MG`{`K8XW&or1FdzO<g@r@RN2_p!zrezP2)ie)jbGfetry@$s+U-5GrT6KJ{Tq"
        "F38;!`etoRQabbH{Te%{y8MyEr4tTTBc)>3izHuUoFa3O;Z#1X(XA=FJ<JVOjgO|GjcMU$>j3MysXG+B`GiEQh6ms#w;t-Km"
        "79Fk8$E7&RqJa*`81D{SfPOF1|;JXzv9u!y%ObI_^dhNxVgTmLvJpOVW39h&<jxJjwA)1yTP6Ai}-XGs?kl1(8s@MXa|1^4R"
        "$i0h<!B-s;6;KNqpGi1k(!9(y(<VACSjTRV8{k%(19tT*p@>{M95W<;zvTY2nfA~q{xz4<o5uQ!6k>=wb^G??RsJ>YvM=(-*"
        "XUFfEB;9?IsE{wTOUCNJk%TtKHnjw44eRkiJMnW!ToXvOV{tp*7*w_"
    )
)


def entries():
    """The entries of torch's file, to be changed."""
    with zipfile.ZipFile(io.BytesIO(WRITTEN_BY_TORCH)) as archive:
        return {name: archive.read(name) for name in archive.namelist()}


def write_zip(path, entries, compression=zipfile.ZIP_STORED):
    with zipfile.ZipFile(path, "w", compression) as archive:
        for name, content in entries.items():
            archive.writestr(name, content)


@pytest.fixture
def path(tmp_path):
    return tmp_path / "weights"


def test_what_torch_wrote(path):
    path.write_bytes(WRITTEN_BY_TORCH)
    assert_same(read_state_dict(path), EXPECTED)
    assert_same(read_state_dict(str(path)), EXPECTED)


def test_what_torch_writes_now(path):
    torch = pytest.importorskip("torch")
    base = torch.arange(24.0)
    tensors = {
        "window": base.view(4, 6)[1:, ::2].T,
        "shared": base[5:],
        "parameter": torch.nn.Parameter(torch.randn(3)),
        "scalar": torch.tensor(2.5),
        "empty": torch.zeros(0, 3),
        "expanded": torch.tensor([1.0]).expand(4),
        "half": torch.randn(3).half(),
        "count": torch.tensor([1, 2]),
    }
    for protocol in (2, 4):
        torch.save(tensors, path, pickle_protocol=protocol)
        assert_same(read_state_dict(path), {name: t.detach().numpy() for name, t in tensors.items()})


def test_the_name_within_the_archive_does_not_matter(path):
    write_zip(path, {name.replace("archive/", "alexnet-owt/"): data for name, data in entries().items()})
    assert_same(read_state_dict(path), EXPECTED)


def test_files_from_before_and_from_elsewhere(path):
    """Before torch 2.1 the byte order was not written; on some machines it is the other one."""
    older = {name: data for name, data in entries().items() if name.endswith("data.pkl") or "/data/" in name}
    write_zip(path, older)
    assert_same(read_state_dict(path), EXPECTED)
    sizes = [4, 4, 4, 4, 2, 2, 8]
    turned = {
        f"archive/data/{key}": np.frombuffer(older[f"archive/data/{key}"], f"u{size}").byteswap().tobytes()
        for key, size in enumerate(sizes)
    }
    write_zip(path, {**older, **turned, "archive/byteorder": b"big"})
    assert_same(read_state_dict(path), EXPECTED)


def test_nothing_of_a_hostile_pickle_is_run(path, tmp_path):
    class Evil:
        def __reduce__(self):
            return os.system, (f"touch {tmp_path / 'made'}",)

    write_zip(path, {**entries(), "archive/data.pkl": pickle.dumps({"state_dict": Evil()})})
    with pytest.raises(
        WeightsError,
        match=f"^{path} holds 'posix.system', which is no tensor; nothing of the file was run; save",
    ):
        read_state_dict(path)
    assert not (tmp_path / "made").exists()


@pytest.mark.parametrize("suffix", ["zip", "safetensors"])
def test_a_file_cut_short_anywhere(path, suffix):
    if suffix == "safetensors":
        save_file({"bias": np.ones(3, np.float32)}, path)
    else:
        path.write_bytes(WRITTEN_BY_TORCH)
    whole = path.read_bytes()
    for length in [*range(9, 80), *range(80, len(whole), 37), len(whole) - 1]:
        if length < len(whole):
            path.write_bytes(whole[:length])
            with pytest.raises(WeightsError, match=f"^{path} is cut short or damaged .*; fetch it again"):
                read_state_dict(path)


@pytest.mark.parametrize("suffix", ["zip", "safetensors"])
def test_damage_anywhere_is_one_kind_of_error(path, suffix, rng):
    if suffix == "safetensors":
        save_file({"bias": np.ones(3, np.float32), "half": np.ones(3, np.float16)}, path)
    else:
        path.write_bytes(WRITTEN_BY_TORCH)
    whole, refused = path.read_bytes(), 0
    for _ in range(100):
        damaged = np.frombuffer(whole, np.uint8).copy()
        places = rng.integers(0, len(damaged), rng.integers(1, 4))
        damaged[places] = rng.integers(0, 256, len(places))
        path.write_bytes(damaged.tobytes())
        try:
            read_state_dict(path)
        except WeightsError:
            refused += 1
    assert refused > 15


def test_damage_within_a_pickle_is_one_kind_of_error(path, rng):
    """The archive's checksums are right, so it is the pickle that is read."""
    refused = 0
    pickled = entries()["archive/data.pkl"]
    for _ in range(100):
        damaged = np.frombuffer(pickled, np.uint8).copy()
        places = rng.integers(0, len(damaged), rng.integers(1, 4))
        damaged[places] = rng.integers(0, 256, len(places))
        write_zip(path, {**entries(), "archive/data.pkl": damaged.tobytes()})
        try:
            read_state_dict(path)
        except WeightsError:
            refused += 1
    assert refused > 30


def test_damaged_numbers_are_found(path):
    place = WRITTEN_BY_TORCH.index(np.array([5, 6], np.float32).tobytes())
    path.write_bytes(WRITTEN_BY_TORCH[:place] + b"\1" + WRITTEN_BY_TORCH[place + 1 :])
    with pytest.raises(WeightsError, match="is cut short or damaged .*CRC"):
        read_state_dict(path)


def test_a_compressed_archive(path):
    write_zip(path, {**entries(), "archive/data/0": bytes(10**6)}, zipfile.ZIP_DEFLATED)
    assert path.stat().st_size < 10_000
    with pytest.raises(WeightsError, match="is a compressed archive, which torch.save does not write; save"):
        read_state_dict(path)


def test_entries_that_are_the_same_bytes(path):
    """Many entries of one content would be read many times over."""
    with zipfile.ZipFile(path, "w") as archive:
        for name, content in entries().items():
            archive.writestr(name, content)
        for number in range(100):
            again = copy.copy(archive.getinfo("archive/data.pkl"))
            again.filename = f"archive/data/again{number}"
            archive.filelist.append(again)
    with pytest.raises(WeightsError, match="declares [0-9,]+ bytes and has [0-9,]+; fetch it again"):
        read_state_dict(path)


def test_a_pickle_too_long_to_be_one_of_tensors(path, monkeypatch):
    monkeypatch.setattr("gradrev_jax.weights.reader.LARGEST_PICKLE", 700)
    path.write_bytes(WRITTEN_BY_TORCH)
    with pytest.raises(WeightsError, match="has a pickle of 740 bytes, too long for names and shapes"):
        read_state_dict(path)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"archive/data/1": None}, "lacks archive/data/1, which its tensors refer to; save"),
        ({"archive/data/1": bytes(7)}, "has 7 bytes for bias, where 2 numbers of float32 are declared; save"),
        (
            {"archive/data.pkl": None},
            "is a zip archive, but not one of torch.save, which has one NAME/data.pkl",
        ),
        ({"other/data.pkl": b""}, "is a zip archive, but not one of torch.save, which has one NAME/data.pkl"),
        ({"archive/data.pkl": pickle.dumps(3)}, "holds no tensors by name; save"),
        ({"archive/data.pkl": b""}, r"is cut short or damaged \(pickle exhausted before seeing STOP\)"),
    ],
)
def test_archives_that_are_not_whole(path, change, message):
    write_zip(path, {name: data for name, data in {**entries(), **change}.items() if data is not None})
    with pytest.raises(WeightsError, match=f"^{path} {message}"):
        read_state_dict(path)


def test_safetensors(path):
    tensors = {
        "bias": np.arange(3, dtype=np.float16),
        "count": np.array(3, np.int64),
        "empty": np.zeros((0, 3), np.float32),
        "flag": np.array([True, False]),
        "unsigned": np.array([1, 2], np.uint16),
        "weight": np.arange(6.0).reshape(2, 3),
    }
    save_file(tensors, path)
    assert_same(read_state_dict(path), tensors)


def write_safetensors(path, dtype, content):
    header = json.dumps({"bias": {"dtype": dtype, "shape": [2], "data_offsets": [0, len(content)]}}).encode()
    path.write_bytes(struct.pack("<Q", len(header)) + header + content)


def test_safetensors_of_dtypes_that_numpy_lacks(path):
    write_safetensors(path, "BF16", b"\xc0\x3f\x00\xc0")
    assert_same(read_state_dict(path), {"bias": np.array([1.5, -2], jnp.bfloat16)})
    write_safetensors(path, "F8_E4M3", bytes(2))
    with pytest.raises(WeightsError, match="holds tensors of a dtype that is not read: bias: F8_E4M3"):
        read_state_dict(path)
    write_safetensors(path, "F32", bytes(4))
    with pytest.raises(WeightsError, match="is cut short or damaged"):
        read_state_dict(path)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "is empty"),
        (
            b"\xff\xd8\xff\xe0\0\x10JFIF",
            "is neither a file of torch.save nor a .safetensors file: it begins with",
        ),
        (b"<!DOCTYPE html>\n", "is neither .*: it begins with b'<!DOCTYPE html>"),
        (b'notes: {"a"}', "is neither"),
        (
            b"version https://git-lfs.github.com/spec/v1\n",
            "is a Git LFS pointer",
        ),
        (b"PK\x03\x04", "is cut short or damaged"),
        (pickle.dumps({"weight": [1.0]}), "is a plain pickle, which torch.save does not write; save"),
        (pickle.dumps({"weight": [1.0]}, 2), "is a plain pickle, which torch.save does not write; save"),
        (pickle.dumps(0x1950A86A20F9469CFC6C, 2), "is cut short or damaged"),  # the format before torch 1.6
    ],
)
def test_other_formats(path, content, message):
    path.write_bytes(content)
    with pytest.raises(WeightsError, match=f"^{path} {message}"):
        read_state_dict(path)


def test_no_file(path, tmp_path):
    with pytest.raises(WeightsError, match=f"^{path} does not exist$"):
        read_state_dict(path)
    with pytest.raises(WeightsError, match=f"^{tmp_path} is not a file; give a file of weights"):
        read_state_dict(tmp_path)
    with pytest.raises(WeightsError, match="^/dev/zero is not a file"):
        read_state_dict("/dev/zero")


def test_a_file_that_may_not_be_read(path, monkeypatch):
    path.write_bytes(WRITTEN_BY_TORCH)

    def refuse(*_):
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr("zipfile.ZipFile.read", refuse)
    with pytest.raises(WeightsError, match=f"^{path} cannot be read: Permission denied"):
        read_state_dict(path)
