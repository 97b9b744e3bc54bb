"""Images and databases for both scanners, and the comparison of what they say.

The registry is this process. Trivy and pullgate read the same database file, which bbolt writes from rows.
"""

import collections
import gzip
import hashlib
import http.server
import io
import json
import os
import pathlib
import re
import sqlite3
import struct
import subprocess
import sys
import tarfile
import tempfile
import threading

import programs

# What tests/tools fetched: libraries, and the schema of SARIF.
TOOLS = pathlib.Path(__file__).resolve().parents[3] / '.tools'
sys.path.append(str(TOOLS / 'python'))

import cyclonedx.schema
import cyclonedx.validation.json
import jsonschema

BLOBS, TAGS = {}, {}


class Registry(http.server.BaseHTTPRequestHandler):
    protocol_version = 'HTTP/1.1'

    def log_message(self, *_):
        pass

    def do_HEAD(self):
        self.do_GET()

    def do_GET(self):
        repository, _, rest = self.path.removeprefix('/v2/').partition('/')
        kind, _, name = rest.partition('/')
        digest = TAGS.get((repository, name), name) if kind == 'manifests' else name
        if self.path == '/v2/':
            self.answer(200, b'{}', 'application/json', {})
        elif digest in BLOBS:
            media_type = 'application/vnd.oci.image.manifest.v1+json' if kind == 'manifests' else 'application/octet-stream'
            self.answer(200, BLOBS[digest], media_type, {'Docker-Content-Digest': digest})
        else:
            self.answer(404, b'{"errors":[{"code":"MANIFEST_UNKNOWN"}]}', 'application/json', {})

    def answer(self, status, body, media_type, headers):
        self.send_response(status)
        for name, value in {'Content-Type': media_type, 'Content-Length': str(len(body)), **headers}.items():
            self.send_header(name, value)
        self.end_headers()
        if self.command != 'HEAD':
            self.wfile.write(body)


def blob(content):
    digest = 'sha256:' + hashlib.sha256(content).hexdigest()
    BLOBS[digest] = content
    return {'digest': digest, 'size': len(content)}


def archive(files):
    """A layer of (path, content) or (path, content, mode), with all directories."""
    output, known = io.BytesIO(), set()
    with tarfile.open(fileobj=output, mode='w', format=tarfile.PAX_FORMAT) as tar:
        for path, content, *mode in files:
            for parent in reversed(pathlib.PurePosixPath(path).parents[:-1]):
                if parent not in known:
                    known.add(parent)
                    entry = tarfile.TarInfo(str(parent))
                    entry.type, entry.mode = tarfile.DIRTYPE, 0o755
                    tar.addfile(entry)
            content = content.encode() if isinstance(content, str) else content
            entry = tarfile.TarInfo(path)
            entry.size, entry.mode = len(content), mode[0] if mode else 0o644
            tar.addfile(entry, io.BytesIO(content))
    return output.getvalue()


def push(name, layers):
    """Puts an image into the registry."""
    tars = [archive(files) for files in layers]
    ids = ['sha256:' + hashlib.sha256(tar).hexdigest() for tar in tars]
    layers = [{'mediaType': 'application/vnd.oci.image.layer.v1.tar+gzip', **blob(gzip.compress(tar, 1, mtime=0))} for tar in tars]
    config = {'architecture': 'amd64', 'os': 'linux', 'config': {}, 'rootfs': {'type': 'layers', 'diff_ids': ids}}
    config = {'mediaType': 'application/vnd.oci.image.config.v1+json', **blob(json.dumps(config).encode())}
    media_type = 'application/vnd.oci.image.manifest.v1+json'
    manifest = {'schemaVersion': 2, 'mediaType': media_type, 'config': config, 'layers': layers}
    TAGS[name, '1'] = blob(json.dumps(manifest).encode())['digest']


class Rows:
    """The rows of a database."""

    def __init__(self):
        self.rows = []

    def add(self, path, key, value):
        self.rows.append({'path': path, 'key': key, 'value': value})

    def about(self, id):
        return [row for row in self.rows if row['key'] == id and row['path'] != ['vulnerability']]


def rpm_header(tags):
    """A header of RPM (rpm.org, "RPM V4 Package format") of (tag, text or number)."""
    data, index = b'', b''
    for tag, value in sorted(tags):
        if isinstance(value, int):
            data += bytes(-len(data) % 4)
        index += struct.pack('>IIiI', tag, 4 if isinstance(value, int) else 6, len(data), 1)
        data += struct.pack('>i', value) if isinstance(value, int) else value.encode() + b'\0'
    size = 16 + len(index)
    region = struct.pack('>IIiI', 63, 7, len(data), 16)
    data += struct.pack('>IIiI', 63, 7, -size, 16)
    return struct.pack('>II', size // 16, len(data)) + region + index + data


def rpm(name, version, release, epoch=None, arch='x86_64', vendor='', source=None, module=None):
    tags = [(1000, name), (1001, version), (1002, release), (1009, 1), (1011, vendor), (1014, 'MIT'), (1022, arch)]
    tags += [(1044, source or f'{name}-{version}-{release}.src.rpm')]
    return rpm_header(tags + [(1003, epoch)] * (epoch is not None) + [(5096, module)] * (module is not None))


def rpm_database(headers):
    with tempfile.TemporaryDirectory() as directory:
        file = pathlib.Path(directory, 'rpmdb.sqlite')
        database = sqlite3.connect(file)
        database.execute('CREATE TABLE Packages (hnum INTEGER PRIMARY KEY AUTOINCREMENT, blob BLOB NOT NULL)')
        database.executemany('INSERT INTO Packages (blob) VALUES (?)', [(header,) for header in headers])
        database.commit()
        database.close()
        return file.read_bytes()


class Scanners:
    """Both scanners with a database of these rows."""

    def __init__(self, rows, directory, pullgate):
        self.directory, self.pullgate_program, self.rows = pathlib.Path(directory), pullgate, rows
        self.server = http.server.ThreadingHTTPServer(('127.0.0.1', 0), Registry)
        threading.Thread(target=self.server.serve_forever, daemon=True).start()
        self.address = f'127.0.0.1:{self.server.server_port}'
        self.names, self.faults, self.packages, self.vulnerabilities = [], [], 0, 0
        database = self.directory / 'cache/db'
        (self.directory / 'policies').mkdir()
        database.mkdir(parents=True)
        lines = '\n'.join(json.dumps(row) for row in rows.rows)
        subprocess.run(['bolt-write', database / 'trivy.db'], input=lines, text=True, check=True)
        dates = {'UpdatedAt': '2026-01-01T00:00:00Z', 'DownloadedAt': '2026-01-01T00:00:00Z', 'NextUpdate': '2100-01-01T00:00:00Z'}
        (database / 'metadata.json').write_text(json.dumps({'Version': 2, **dates}))
        self.java_database(dates)
        (self.directory / 'policies/all.yaml').write_text('''apiVersion: pullgate.io/v1
kind: ClusterImagePolicy
metadata: {name: all}
spec: {repositories: [{name: "*", policy: {va: {severity: low}}}]}
''')
        (self.directory / 'pullgate.toml').write_text(f'''state_dir = "{self.directory}/state"
[[listener]]
address = "127.0.0.1:0"
[admin]
address = "127.0.0.1:0"
[policy]
dir = "{self.directory}/policies"
[va]
max_db_age = "36500d"
[[upstream]]
host = "registry.test"
url = "http://{self.address}"
''')
        for imported in (database, self.directory / 'cache/java-db'):
            self.run(pullgate, 'db', 'import', imported, *self.config())

    def java_database(self, dates):
        """With the checksum of one archive, so that Trivy knows only that one and those that state what they are."""
        directory = self.directory / 'cache/java-db'
        directory.mkdir()
        database = sqlite3.connect(directory / 'trivy-java.db')
        database.executescript('''
CREATE TABLE artifacts (id INTEGER PRIMARY KEY, group_id TEXT, artifact_id TEXT);
CREATE TABLE indices (artifact_id INTEGER, version TEXT, sha1 BLOB, archive_type TEXT);
CREATE UNIQUE INDEX indices_sha1_idx ON indices(sha1);
INSERT INTO artifacts VALUES (1, 'org.published', 'tool');''')
        checksum = hashlib.sha1(programs.PUBLISHED).digest()
        database.execute('INSERT INTO indices VALUES (1, ?, ?, ?)', ('3.1', checksum, 'jar'))
        database.commit()
        database.close()
        (directory / 'metadata.json').write_text(json.dumps({'Version': 1, **dates}))

    def config(self):
        return '--config', self.directory / 'pullgate.toml'

    def run(self, *command, codes=(0,)):
        finished = subprocess.run(command, capture_output=True, text=True)
        if finished.returncode not in codes:
            sys.exit(f'{command}: {finished.stdout}{finished.stderr}')
        return finished.stdout

    def push(self, name, layers):
        push(name, layers)
        self.names.append(name)

    def report(self, name):
        """What Trivy says about an image."""
        options = ['--insecure', '--image-src', 'remote', '--skip-db-update', '--skip-java-db-update', '--offline-scan']
        options += ['--cache-dir', self.directory / 'cache', '--cache-backend', 'memory', '--skip-version-check']
        options += ['--disable-telemetry', '--quiet', '--format', 'json', '--list-all-pkgs', '--scanners', 'vuln']
        return json.loads(self.run('trivy', 'image', *options, f'{self.address}/{name}:1'))

    def trivy(self, name):
        """The packages and vulnerabilities that Trivy lists."""
        report = self.report(name)
        packages, vulnerabilities = collections.Counter(), collections.Counter()
        for result in report.get('Results', []):
            kind = 'system' if result['Class'] == 'os-pkgs' else result['Type']
            target = result['Target'] if kind in ONE_FILE else ''
            for package in result.get('Packages', []):
                version = full(package, '')
                source = (package.get('SrcName', ''), full(package, 'Src')) if kind == 'system' else ('', '')
                source = source if source[0] and source != (package['Name'], version) else ('', '')
                path = package.get('FilePath', target)
                packages[kind, package['Name'], version, *source, path, package['Layer']['DiffID']] += 1
            for found in result.get('Vulnerabilities', []):
                about = found['PkgName'], found.get('InstalledVersion', ''), found.get('PkgPath', target)
                states = found.get('FixedVersion', ''), found['Status'], found['Severity'].lower(), found.get('SeveritySource', '')
                vulnerabilities[found['VulnerabilityID'], *about, *states] += 1
        return packages, vulnerabilities

    def pullgate(self, name):
        """The same of pullgate, and its gaps."""
        output = self.run(self.pullgate_program, 'va', f'registry.test/{name}:1', '--offline', '--output', 'json', *self.config(), codes=(0, 2))
        (scan,) = json.loads(output)
        packages, vulnerabilities = collections.Counter(), collections.Counter()
        for package in scan['packages']:
            kind = KINDS[package['ecosystem']]
            source = package.get('source') or {'name': '', 'version': ''}
            path = '' if kind == 'system' else package['path']
            source = source['name'], source['version']
            packages[kind, package['name'], package.get('version', ''), *source, path, package['layer']] += 1
        for issue in scan['issues']:
            # Trivy was asked for vulnerabilities only.
            for package in issue['packages'] if issue['kind'] == 'Vulnerability' else []:
                about = package['name'], package['installed'] or '', package.get('path') or ''
                states = package['fixed'] or '', package['status'], issue['severity'], issue.get('severity_source') or ''
                vulnerabilities[issue['id'], *about, *states] += 1
        gaps = [*map(str, scan['gaps']), scan['why'] or '']
        return packages, vulnerabilities, [gap for gap in gaps if gap and 'support of the release ended' not in gap]

    def compare(self, name, layers, expected=(), gaps=False):
        """Scans an image with both. `expected` are the packages that one lists and the other does not, by purpose: each
        as `trivy` or `pullgate`, name and version."""
        self.push(name, layers)
        packages, vulnerabilities = self.trivy(name)
        own_packages, own_vulnerabilities, own_gaps = self.pullgate(name)
        expected = collections.Counter(expected)
        for who, more in ('trivy', packages - own_packages), ('pullgate', own_packages - packages):
            for package, count in more.items():
                key = who, package[1], package[2]
                if expected[key] < count:
                    self.faults.append(f'{name}: only {who} lists {package}')
                expected[key] -= count
        self.faults += [f'{name}: not a difference: {key}' for key, count in expected.items() if count > 0]
        both = ('trivy', vulnerabilities - own_vulnerabilities), ('pullgate', own_vulnerabilities - vulnerabilities)
        for who, more in both:
            self.faults += [f'{name}: only {who} finds {found}, by {self.rows.about(found[0])}' for found in more]
        if bool(own_gaps) != gaps:
            self.faults.append(f'{name}: gaps {own_gaps}')
        self.packages += packages.total()
        self.vulnerabilities += vulnerabilities.total()

    def compare_licences(self, name, layers, expected={}):
        """Compares the names of licences. `expected` are those of Trivy and of pullgate, by package, where they differ."""
        self.push(name, layers)
        output = self.run(self.pullgate_program, 'va', f'registry.test/{name}:1', '--offline', '--output', 'trivy', *self.config(), codes=(0, 2))
        theirs, own = (self.licences(report) for report in (self.report(name), json.loads(output)))
        if not theirs or theirs.keys() != own.keys():
            self.faults.append(f'{name}: {theirs.keys() ^ own.keys()}')
        for package in theirs.keys() & own.keys():
            found = theirs[package], own[package]
            if found != expected.get(package, (found[0], found[0])):
                self.faults.append(f'{name}: the licences of {package} are {found[0]} for trivy and {found[1]} for pullgate')
        self.packages += len(theirs)

    @staticmethod
    def licences(report):
        found = collections.defaultdict(set)
        for result in report.get('Results', []):
            for package in result.get('Packages') or []:
                for text in package.get('Licenses') or []:
                    found[package['Name']].update(re.split(r' (?:AND|OR) ', re.sub('[()]', '', text)))
        return dict(found)

    def validate(self, problem, *command):
        """What a command prints about each image that was compared has no problem."""
        for name in self.names:
            text = self.run(self.pullgate_program, *command, f'registry.test/{name}:1', '--offline', *self.config(), codes=(0, 2, 3))
            if found := problem(text):
                self.faults.append(f'{name}: {command}: {found}')

    def finish(self):
        if self.faults:
            sys.exit('\n'.join(self.faults))
        print(self.packages, 'packages', self.vulnerabilities, 'vulnerabilities')


KINDS = {
    'apk': 'system', 'composer': 'composer-vendor', 'deb': 'system', 'rpm': 'system', 'cargo': 'rustbinary', 'gem': 'gemspec', 'go': 'gobinary', 'maven': 'jar',
    'npm': 'node-pkg', 'nuget': 'dotnet-core', 'pypi': 'python-pkg',
}

# Kinds of which Trivy has one result for each file.
ONE_FILE = 'composer-vendor', 'dotnet-core', 'gobinary', 'rustbinary'


def full(package, prefix):
    """The version that Trivy states in three parts."""
    epoch, version, release = (package.get(prefix + part) for part in ('Epoch', 'Version', 'Release'))
    return (f'{epoch}:' if epoch else '') + (version or '') + (f'-{release}' if release else '')


def bill_problem():
    """Tells why the published schema refuses a bill of materials."""
    validator = cyclonedx.validation.json.JsonStrictValidator(cyclonedx.schema.SchemaVersion.V1_6)

    def problem(text):
        error = validator.validate_str(text)
        return error and f'{error.data.json_path}: {error.data.message}'

    assert problem('{"bomFormat": "CycloneDX"}')
    return problem


def log_problem():
    """Tells why the published schema refuses a log in SARIF."""
    validator = jsonschema.Draft4Validator(json.loads((TOOLS / 'sarif-2.1.0.json').read_text()))

    def problem(text):
        error = next(validator.iter_errors(json.loads(text)), None)
        return error and f'{error.json_path}: {error.message}'

    assert problem('{"version": "2.1.0"}')
    return problem


def start(part):
    """Runs a part: PART.py DIRECTORY PULLGATE [SEED]."""
    directory, pullgate, *seed = sys.argv[1:]
    os.makedirs(directory)
    part(directory, pullgate, *map(int, seed))
