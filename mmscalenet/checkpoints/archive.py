"""Whether the zip file that ``torch.save`` writes is whole: ``torch.load`` looks at no checksum."""
import zipfile
from os import PathLike

from .errors import one_line

_PART = 1 << 20


def damage_of(path: str | PathLike) -> str:
    """What is wrong with a zip archive, '' if nothing is. Reads all of it.

    A file written after ``torch.serialization.set_crc32_options(False)`` has no true checksum at all, and passes.
    """
    try:
        with zipfile.ZipFile(path) as archive:
            records = archive.infolist()
            packed = next((record.filename for record in records if record.compress_type != zipfile.ZIP_STORED), None)
            if packed is not None:  # unpacked, it may be any size
                return f'record {one_line(packed)} is compressed, as torch.save never does'
            good, bad = 0, []
            for record in records:
                if _agrees(archive, record):
                    good += 1
                else:
                    bad.append(one_line(record.filename))
                if good and bad:
                    return f'the checksum of record {bad[0]} does not agree'
            return '' if records else 'it has no records'
    except (OSError, zipfile.BadZipFile, EOFError, NotImplementedError, RuntimeError, ValueError) as error:
        return one_line(error)


def _agrees(archive: zipfile.ZipFile, record: zipfile.ZipInfo) -> bool:
    try:
        with archive.open(record) as content:
            while content.read(_PART):
                pass
    except zipfile.BadZipFile as error:
        if 'CRC' not in str(error):
            raise
        return False
    return True
