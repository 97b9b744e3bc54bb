"""Random packages and rows of programming languages: languages.py DIRECTORY PULLGATE SEED

Not generated, because Trivy differs (docs/va.md, "Differences from Trivy"): ranges that it cannot read, ranges of Maven with a
single version or without a lower bound, and rows of one identifier in two buckets that differ.
"""

import json
import random

import lab
import programs

BUCKETS = {
    'cargo': ('GitHub Security Advisory Rust', 'Open Source Vulnerability'),
    'composer': ('GitHub Security Advisory Composer', 'PHP Security Advisories Database'),
    'go': ('GitHub Security Advisory Go', 'The Go Vulnerability Database'),
    'maven': ('GitHub Security Advisory Maven', 'GitLab Advisory Database Community'),
    'npm': ('GitHub Security Advisory npm', 'Node.js Ecosystem Security Working Group'),
    'nuget': ('GitHub Security Advisory NuGet', 'GitLab Advisory Database Community'),
    'pip': ('GitHub Security Advisory pip', 'Open Source Vulnerability'),
    'rubygems': ('GitHub Security Advisory RubyGems', 'Ruby Advisory Database'),
}
SOURCES = {
    'GitHub Security': 'ghsa', 'GitLab Advisory': 'glad', 'Node.js Ecosyst': 'nodejs-security-wg', 'Open Source Vul': 'osv',
    'PHP Security Ad': 'php-security-advisories',
    'Ruby Advisory D': 'ruby-advisory-db', 'The Go Vulnerab': 'govulndb',
}
NAMES = {
    'cargo': ['p{}', 'p_{}-x'], 'go': ['github.com/Foo/p{}', 'golang.org/x/p{}/v2'], 'maven': ['org.x{}:p', 'com.Foo:P-{}'],
    'composer': ['acme/p{}', 'Foo/p-{}_x'], 'nuget': ['P{}.Core', 'p{}'],
    'npm': ['p{}', '@scope/p{}', 'P{}.js'], 'pip': ['p{}', 'Pack_age-{}', 'zope.i{}'], 'rubygems': ['p{}', 'p-{}_x'],
}
SEMVER = ['-alpha', '-alpha.1', '-beta.2', '-rc1', '-rc.1', '-0', '-1', '-pre.0.20240101000000-abcdefabcdef']
SUFFIXES = {
    'cargo': SEMVER, 'go': SEMVER, 'npm': SEMVER, 'nuget': SEMVER, 'composer': ['-alpha1', '-beta1', '-beta2', '-rc1', '-rc2'],
    'maven': ['-SNAPSHOT', '-alpha-1', '-beta1', '.RELEASE', '.Final', '-jre', '-rc1', '-1', '.GA', '-M1', '.SP1', '-android'],
    'pip': ['a1', 'b2', 'rc1', '.dev1', 'a1.dev2', '.post1', '.post2.dev1', '-1'],
    'rubygems': ['.pre', '.rc1', '.beta.2', '.alpha', '.a'],
}
# {0} to {2} are versions.
COMMON = ['<{0}', '< {0}', '>={0}, <{1}', '>= {0}, < {1}', '>= {0}, <= {1}', '= {0}', '<= {0}', '>{0}', '> {0}']
RANGES = {
    'cargo': ['^{0}', '~{0}', '>={0}, <{1}-0', '~> {0}'], 'go': ['<{0} || >{1}'],
    'maven': ['[0,{0})', '(0,{0}]', '[{0},99)', '[{0},)', '[0,{0}),[99,100)'],
    'composer': ['>={0},<{1}', '>={0},<{1} || >={1},<{2}'], 'nuget': ['<{0} || >{1}'],
    'npm': ['^{0}', '~{0}', '>={0} <{1}', '>={0} <{1} || >{2}', '{0}', '1.x', '*', '<{0} || >={1}', '~0'],
    'pip': ['=={0}', '!={0}', '>={0},<{1}', '<{0}||>={1},<{2}', '==1.*', '>= {0}, != {1}, < {2}'],
    'rubygems': ['~> {0}', '~> {0}, >= {1}', '!= {0}'],
}
PATCHED = {'cargo': ['^{0}'], 'npm': ['^{0}'], 'rubygems': ['~> {0}']}


class Generator:
    """One ecosystem."""

    def __init__(self, chance, rows, kind):
        self.chance, self.rows, self.kind, self.ids = chance, rows, kind, 0
        for bucket in BUCKETS[kind]:
            rows.add(['data-source'], f'{kind}::{bucket}', {'ID': SOURCES[bucket[:15]], 'Name': bucket, 'URL': 'https://x.test'})

    def version(self):
        chance = self.chance
        parts = 3 if self.kind in ('cargo', 'go', 'npm', 'nuget', 'composer') else chance.randint(1, 4)
        version = '.'.join(chance.choice(['0', '0', '1', '1', '2', '3', '9', '10', '11', '20']) for _ in range(parts))
        return version + (chance.choice(SUFFIXES[self.kind]) if chance.random() < 0.25 else '')

    def near(self, version):
        """The same, one with another digit, or any other."""
        place = self.chance.randrange(len(version))
        if self.chance.random() < 0.25:
            return self.version()
        if not version[place].isdigit() or self.chance.random() < 0.4:
            return version
        return version[:place] + str((int(version[place]) + self.chance.choice([1, 9])) % 10) + version[place + 1 :]

    def range(self, version, shapes):
        return self.chance.choice(shapes).format(*(self.near(version) for _ in range(3)))

    def row(self, name, version):
        chance = self.chance
        self.ids += 1
        number = f'{list(BUCKETS).index(self.kind)}{self.ids:04}'
        id = chance.choice(['CVE-2024-{}', 'CVE-2024-{}', 'GHSA-aaaa-bbbb-{}', 'GO-2024-{}', 'RUSTSEC-2024-{}', 'PYSEC-2024-{}']).format(number)
        if chance.random() < 0.9:
            # The NVD lists vulnerabilities that it has not rated.
            sources = chance.sample([*SOURCES.values(), 'nvd', 'redhat'], 3)
            severities = {source: chance.randint(source != 'nvd', 4) for source in sources}
            self.rows.add(['vulnerability'], id, {'Title': id, 'Severity': chance.choice(['LOW', 'HIGH', 'CRITICAL']), 'VendorSeverity': severities})
        shapes, value, which = COMMON * 2 + RANGES[self.kind], {}, chance.random()
        # Trivy reads either kind of range, but not both for one version.
        shapes = chance.choice([COMMON, RANGES[self.kind]]) if self.kind == 'maven' else shapes
        if which < 0.8:
            value['VulnerableVersions'] = [self.range(version, shapes) for _ in range(chance.choice([1, 1, 2]))]
        if which > 0.5:
            patched = ['{0}', '>= {0}', *PATCHED.get(self.kind, [])]
            value['PatchedVersions'] = [self.range(version, patched) for _ in range(chance.choice([1, 1, 2]))]
        if chance.random() < 0.1:
            value['UnaffectedVersions'] = [self.range(version, ['< {0}'])]
        if chance.random() < 0.03:
            value['VulnerableVersions'] = ['']
        if chance.random() < 0.3:
            value['VendorIDs'] = [f'GHSA-xxxx-{number}']
        for bucket in chance.choice([BUCKETS[self.kind][:1], BUCKETS[self.kind][1:], BUCKETS[self.kind]]):
            self.rows.add([f'{self.kind}::{bucket}', name], id, value)

    def layers(self):
        chance = self.chance
        packages = [(chance.choice(NAMES[self.kind]).format(index), self.version()) for index in range(100)]
        for name, version in packages:
            stored = name if self.kind == 'go' else name.lower()
            for _ in range(chance.choice([0, 1, 2, 3])):
                self.row(stored.replace('_', '-') if self.kind == 'pip' else stored, version)
        return [getattr(self, self.kind)(packages)]

    def cargo(self, packages):
        listed = [{'name': name, 'version': version, 'source': 'crates.io'} for name, version in packages]
        root = {'name': 'root', 'version': '0.1.0', 'source': 'local', 'root': True}
        return [('usr/bin/app', programs.rust([*listed, root]), 0o755)]

    def composer(self, packages):
        return [('app/vendor/composer/installed.json', programs.composer(packages))]

    def nuget(self, packages):
        return [('app/App.deps.json', programs.dotnet(packages))]

    def go(self, packages):
        modules = [(name, f'v{version}') for name, version in packages]
        for fixed in '1.21.9', '1.22.4':
            self.row('stdlib', fixed)
        return [('usr/bin/app', programs.go('go1.22.3', 'x.test/app', ('x.test/app', 'v1.2.3'), modules), 0o755)]

    def maven(self, packages):
        coordinates = [(*name.split(':'), version) for name, version in packages]
        return [(f'opt/{n}.jar', programs.zipped([programs.manifest(), programs.pom(*package)])) for n, package in enumerate(coordinates)]

    def npm(self, packages):
        return [(f'app/node_modules/{name}/package.json', json.dumps({'name': name, 'version': version})) for name, version in packages]

    def pip(self, packages):
        text = 'Metadata-Version: 2.1\nName: {}\nVersion: {}\n\nx\n'
        path = 'usr/lib/python3/site-packages/{}-{}.dist-info/METADATA'
        return [(path.format(name.replace('-', '_'), version), text.format(name, version)) for name, version in packages]

    def rubygems(self, packages):
        text = '# stub: {0} {1} ruby lib\n\nGem::Specification.new do |s|\n  s.name = "{0}".freeze\n  s.version = "{1}"\nend\n'
        path = 'usr/lib/ruby/gems/3.1.0/specifications/{}-{}.gemspec'
        return [(path.format(*package), text.format(*package)) for package in packages]


def compare(directory, pullgate, seed):
    chance, rows = random.Random(seed), lab.Rows()
    images = [(f'language-{kind}', Generator(chance, rows, kind).layers()) for kind in BUCKETS]
    scanners = lab.Scanners(rows, directory, pullgate)
    for name, layers in images:
        scanners.compare(name, layers)
    if seed == 1:
        for command in 'va', 'check':
            scanners.validate(lab.log_problem(), command, '--output', 'sarif')
    scanners.finish()


if __name__ == '__main__':
    lab.start(compare)
