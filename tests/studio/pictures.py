"""PNG files without a library: enough to make small ones and to compare those that the programs write."""
import struct
import zlib


def encode(width, height, pixel, channels=3):
    """A PNG whose pixels `pixel(x, y)` gives, as tuples of 3 or 4 numbers."""
    return file(width, height, b"".join(b"\0" + bytes(value for x in range(width) for value in pixel(x, y)) for y in range(height)), channels)


def file(width, height, rows, channels=3):
    """A PNG that claims this size, whatever rows it has."""
    kind = {3: 2, 4: 6}[channels]

    def chunk(name, data):
        return struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data))

    header = struct.pack(">IIBBBBB", width, height, 8, kind, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(rows)) + chunk(b"IEND", b"")


def chunks(png):
    at = 8
    while at < len(png):
        length, name = struct.unpack(">I4s", png[at:at + 8])
        yield name, png[at + 8:at + 8 + length]
        at += 12 + length


def decode(png):
    """(width, height, channels, values) of a PNG of 8 bits without interlacing."""
    packed = b""
    for name, data in chunks(png):
        if name == b"IHDR":
            width, height, depth, kind = struct.unpack(">IIBB", data[:10])
        if name == b"IDAT":
            packed += data
    channels = {2: 3, 6: 4, 0: 1}[kind]
    assert depth == 8
    raw, stride = zlib.decompress(packed), width * channels
    above, values = bytearray(stride), bytearray()
    for y in range(height):
        form, row = raw[y * (stride + 1)], bytearray(raw[y * (stride + 1) + 1:(y + 1) * (stride + 1)])
        for i in range(stride):
            left = row[i - channels] if i >= channels else 0
            up, corner = above[i], above[i - channels] if i >= channels else 0
            if form == 1:
                row[i] = (row[i] + left) & 255
            elif form == 2:
                row[i] = (row[i] + up) & 255
            elif form == 3:
                row[i] = (row[i] + (left + up) // 2) & 255
            elif form == 4:
                guess = left + up - corner
                distances = abs(guess - left), abs(guess - up), abs(guess - corner)
                row[i] = (row[i] + (left, up, corner)[distances.index(min(distances))]) & 255
        values += row
        above = row
    return width, height, channels, bytes(values)


def largest_difference(one, other):
    """In levels, of two PNGs; 256 for pictures of different sizes."""
    a, b = decode(one), decode(other)
    return max((abs(x - y) for x, y in zip(a[3], b[3])), default=0) if a[:3] == b[:3] else 256


def texts(png):
    """The texts in a PNG by their keywords."""
    found = {}
    for name, data in chunks(png):
        if name == b"tEXt":
            key, text = data.split(b"\0", 1)
            found[key.decode()] = text.decode("latin-1")
        if name == b"iTXt":
            key, rest = data.split(b"\0", 1)
            found[key.decode()] = rest[2:].split(b"\0", 2)[2].decode()
    return found
