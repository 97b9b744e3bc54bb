"""For each archive on standard input, writes a byte 1 or 0: whether Python's tarfile reads an entry from it. Each archive
is preceded by its length, four bytes, big-endian."""
import io
import struct
import sys
import tarfile


def reads(data):
    try:
        with tarfile.open(fileobj=io.BytesIO(data), mode="r:*") as archive:
            return archive.next() is not None
    except Exception:
        return False


while head := sys.stdin.buffer.read(4):
    data = sys.stdin.buffer.read(struct.unpack(">I", head)[0])
    sys.stdout.buffer.write(bytes([reads(data)]))
