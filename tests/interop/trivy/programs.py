"""Files as compilers and packagers write them: programs of Go and Rust, Java archives."""

import io
import json
import struct
import zipfile
import zlib


def elf(section, data):
    """A program with one section, which the kernel would load."""
    names = b'\0' + section.encode() + b'\0.shstrtab\0'
    data += bytes(-len(data) % 16)
    at, address = 0x1000, 0x401000
    names_at = at + len(data)
    sections_at = names_at + len(names) + -len(names) % 16
    header = b'\x7fELF\x02\x01\x01' + bytes(9)
    header += struct.pack('<HHIQQQIHHHHHH', 2, 62, 1, address, 64, sections_at, 0, 64, 56, 1, 64, 3, 2)
    header += struct.pack('<IIQQQQQQ', 1, 6, at, address, address, len(data), len(data), 0x1000)
    sections = bytes(64) + struct.pack('<IIQQQQIIQQ', 1, 1, 3, address, at, len(data), 0, 0, 16, 0)
    sections += struct.pack('<IIQQQQIIQQ', len(section) + 2, 3, 0, 0, names_at, len(names), 0, 0, 1, 0)
    return (header.ljust(at, b'\0') + data + names).ljust(sections_at, b'\0') + sections


def go(version, path, main, modules, settings=()):
    """A program of Go: `main` and `modules` are (name, version), or (name, version, name, version) of a replacement."""
    lines = [f'path\t{path}'] + ([f'mod\t{main[0]}\t{main[1]}\t'] if main else [])
    for name, own, *other in modules:
        lines += [f'dep\t{name}\t{own}' + ('' if other else '\th1:x=')]
        lines += ['=>\t' + '\t'.join(other) + '\t'] if other else []
    lines += [f'build\t{key}={value}' for key, value in settings]
    around = b'0w\xaf\x0c\x92t\x08\x02A\xe1\xc1\x07\xe6\xd6\x18\xe6', b'\xf92C1\x86\x18 r\x00\x82B\x10A\x16\xd8\xf2'
    texts = version.encode(), around[0] + '\n'.join([*lines, '']).encode() + around[1]
    data = b'\xff Go buildinf:\x08\x02' + bytes(16) + b''.join(length(text) + text for text in texts)
    return elf('.go.buildinfo', data + bytes(64))


def length(text):
    number, output = len(text), b''
    while number >= 128:
        output, number = output + bytes([number % 128 + 128]), number // 128
    return output + bytes([number])


def rust(packages):
    """A program of `cargo auditable`."""
    return elf('.dep-v0', zlib.compress(json.dumps({'packages': packages}).encode()))


def dotnet(packages, unused=()):
    """`App.deps.json` of a program that uses the packages when it runs; `unused` were needed to compile it."""
    target, names = '.NETCoreApp,Version=v8.0', [f'{name}/{version}' for name, version in packages]
    used = {name: {'runtime': {f'lib/net8.0/{name.split("/")[0]}.dll': {}}} for name in names}
    used |= {f'{name}/{version}': {'compile': {'x.dll': {}}} for name, version in unused}
    libraries = {name: {'type': 'package', 'serviceable': True, 'sha512': ''} for name in used}
    return json.dumps({'runtimeTarget': {'name': target, 'signature': ''}, 'targets': {target: used}, 'libraries': libraries})


def composer(packages):
    """`installed.json` of Composer 2."""
    return json.dumps({'packages': [{'name': name, 'version': version, 'license': ['MIT']} for name, version in packages], 'dev': False})


def zipped(files):
    output = io.BytesIO()
    with zipfile.ZipFile(output, 'w', zipfile.ZIP_DEFLATED) as archive:
        for path, content in files:
            archive.writestr(path, content)
    return output.getvalue()


def pom(group, artifact, version):
    return f'META-INF/maven/{group}/{artifact}/pom.properties', f'#x\nversion={version}\ngroupId={group}\nartifactId={artifact}\n'


def manifest(**lines):
    text = ''.join(f'{name.replace("_", "-")}: {value}\n' for name, value in lines.items())
    return 'META-INF/MANIFEST.MF', f'Manifest-Version: 1.0\n{text}'


# A published archive that does not state what it is: org.published:tool 3.1. The database of archives has its checksum.
PUBLISHED = zipped([manifest(), ('org/published/Tool.class', 'x')])
