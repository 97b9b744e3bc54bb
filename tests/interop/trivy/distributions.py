"""Random packages and rows of distributions: distributions.py DIRECTORY PULLGATE SEED

Not generated, because Trivy differs (docs/va.md, "Differences from Trivy"): unreadable versions, rows without a fix where
Trivy does not expect them, packages of Oracle Linux for all architectures, `~`, `^` and letters in versions of Amazon, and
numbers with leading zeros on Alpine.
"""

import random
import re

import lab

def released(id, version, *files):
    return [*files, ('etc/os-release', f'ID="{id}"\nVERSION_ID="{version}"\n')]


# Package manager, bucket, source of severities, vendor, files.
DISTRIBUTIONS = [
    *(('deb', f'debian {v}', 'debian', '', released('debian', v, ('etc/debian_version', f'{v}.4\n'))) for v in ('11', '12', '13')),
    *(
        ('deb', f'ubuntu {v}', 'ubuntu', '', released('ubuntu', v, ('etc/lsb-release', f'DISTRIB_ID=Ubuntu\nDISTRIB_RELEASE={v}\n')))
        for v in ('20.04', '22.04', '24.04')
    ),
    *(
        ('apk', f'alpine {v}', 'alpine', '', [*released('alpine', f'{v}.1', ('etc/alpine-release', f'{v}.1\n')), ('etc/apk/repositories', f'https://x.test/alpine/v{v}/main\n')])
        for v in ('3.18', '3.19', '3.20', '3.21', '3.22')
    ),
    ('apk', 'alpine edge', 'alpine', '', [*released('alpine', '3.23.0_alpha20250612', ('etc/alpine-release', '3.23.0_alpha20250612\n')), ('etc/apk/repositories', 'https://x.test/alpine/edge/main\n')]),
    *(('apk', id, id, '', released(id, '20230201')) for id in ('wolfi', 'chainguard', 'minimos')),
    *(
        ('rpm', f'alma {v}', 'alma', 'AlmaLinux', released('almalinux', f'{v}.4', ('etc/almalinux-release', f'AlmaLinux release {v}.4 (X)\n')))
        for v in ('8', '9', '10')
    ),
    *(
        ('rpm', f'rocky {v}', 'rocky', 'Rocky Enterprise Software Foundation', released('rocky', f'{v}.4', ('etc/rocky-release', f'Rocky Linux release {v}.4 (X)\n')))
        for v in ('8', '9')
    ),
    *(
        ('rpm', f'Oracle Linux {v}', 'oracle-oval', 'Oracle America', released('ol', f'{v}.4', ('etc/oracle-release', f'Oracle Linux Server release {v}.4\n')))
        for v in ('8', '9')
    ),
    *(
        ('rpm', 'Red Hat', 'redhat', 'Red Hat, Inc.', released('rhel', f'{v}.4', ('etc/redhat-release', f'Red Hat Enterprise Linux release {v}.4 (X)\n')))
        for v in ('8', '9')
    ),
    ('rpm', 'Red Hat', 'redhat', 'CentOS', released('centos', '7', ('etc/centos-release', 'CentOS Linux release 7.9.2009 (Core)\n'))),
    ('rpm', 'amazon linux 2', 'amazon', 'Amazon Linux', [*released('amzn', '2', ('etc/system-release', 'Amazon Linux release 2 (Karoo)\n'))]),
    ('rpm', 'amazon linux 2023', 'amazon', 'Amazon Linux', released('amzn', '2023', ('etc/system-release', 'Amazon Linux release 2023.3.20240304 (Amazon Linux)\n'))),
    ('rpm', 'openSUSE Leap 15.6', 'suse-cvrf', 'openSUSE', released('opensuse-leap', '15.6')),
    ('rpm', 'openSUSE Tumbleweed', 'suse-cvrf', 'openSUSE', released('opensuse-tumbleweed', '20240601')),
    ('rpm', 'SUSE Linux Enterprise 15.7', 'suse-cvrf', 'SUSE LLC <https://www.suse.com/>', released('sles', '15.7')),
    ('rpm', 'SUSE Linux Enterprise Micro 6.0', 'suse-cvrf', 'SUSE LLC <https://www.suse.com/>', released('sl-micro', '6.0')),
    ('rpm', 'Photon OS 5.0', 'photon', 'VMware, Inc.', released('photon', '5.0')),
    ('rpm', 'Azure Linux 3.0', 'azure', 'Microsoft Corporation', released('azurelinux', '3.0')),
    ('rpm', 'CBL-Mariner 2.0', 'cbl-mariner', 'Microsoft Corporation', released('mariner', '2.0')),
]
SOURCES = ['debian', 'ubuntu', 'redhat', 'nvd', 'ghsa', 'alma', 'rocky', 'amazon', 'oracle-oval', 'photon', 'suse-cvrf', 'azure']
# Distributions whose rows may have no fix.
UNFIXED = ['debian', 'ubuntu', 'alpine', 'azure', 'cbl-mariner']
SUFFIXES = {
    'deb': ['~rc1', '~', '+dfsg', '+dfsg1', '~beta2', 'a', 'b1', '+git20240101.abc', '-1', '~~', '.0', '+really1.2'],
    'apk': ['_rc1', '_alpha', '_beta2', '_pre3', '_p1', '_git20240101', '_p0', '_cvs', 'a', 'z_rc'],
    'rpm': ['~rc1', '^git1', 'a', 'b', '.b2', '_1', '~', '^', '~rc1^git2', '.fc', '.0', '+x'],
    'amazon': ['.0'],
}
RELEASES = {
    'deb': ['1', '2', '1+deb12u1', '1+deb12u2', '0ubuntu1', '0ubuntu0.22.04.1', '1ubuntu3.10', '2+b1', '1~bpo12+1', '0', '1.1'],
    'apk': ['r0', 'r1', 'r2', 'r10', 'r100'],
    'rpm': ['1', '1.el9', '2.el9_4', '10.el9_4.1', '1.el9_10', '150500.3.1', '1.ph5', '3.azl3', '1~x', '1.0.1.el9', '1.ksplice1.el9', '5_fips'],
    'amazon': ['1', '2.amzn2', '1.amzn2023', '1.amzn2023.0.2', '10.amzn2023'],
}


def compare(directory, pullgate, seed):
    chance, rows = random.Random(seed), lab.Rows()
    for repository in ('rhel-{}-for-x86_64-baseos-rpms', 'rhel-{}-for-x86_64-appstream-rpms'):
        for release in '89':
            rows.add(['Red Hat CPE', 'repository'], repository.format(release), chance.sample(range(10), 3))
    rows.add(['Red Hat CPE', 'repository'], 'rhel-7-server-rpms', [1, 2])
    rows.add(['Red Hat CPE', 'repository'], 'rhel-7-server-extras-rpms', [5])
    images = []
    for number, distribution in enumerate(DISTRIBUTIONS):
        images.append((f'system-{number}', Generator(chance, rows, number, distribution).layers()))
    scanners = lab.Scanners(rows, directory, pullgate)
    for name, layers in images:
        scanners.compare(name, layers)
    scanners.finish()


class Generator:
    """One distribution."""

    def __init__(self, chance, rows, number, distribution):
        self.chance, self.rows, self.number = chance, rows, number
        self.kind, self.bucket, self.source, self.vendor, self.files = distribution
        self.style = 'amazon' if self.source == 'amazon' else self.kind
        self.ids = 0

    def layers(self):
        self.rows.add(['data-source'], self.bucket, {'ID': self.source, 'Name': self.source, 'URL': 'https://x.test'})
        packages = [self.package(index) for index in range(60)]
        for name in sorted({name for package in packages for name in (package['name'], package['source'])}):
            owners = [package for package in packages if name in (package['name'], package['source'])]
            for _ in range(self.chance.choice([0, 1, 2, 3])):
                self.row(name, self.chance.choice(owners))
        return [[*self.files, self.database(packages)]]

    def package(self, index):
        chance, name = self.chance, f's{self.number}-p{index}'
        version = self.version()
        source = chance.choice([name, name, f'{name}-src', f's{self.number}-shared{index % 4}'])
        source_version = version if self.kind == 'apk' or chance.random() < 0.7 else self.version()
        arch = chance.choice(['x86_64', 'i686', 'aarch64', 'x86_64' if self.source == 'oracle-oval' else 'noarch'])
        is_modular = self.source in ('alma', 'rocky', 'redhat') and chance.random() < 0.2
        module = chance.choice(['nodejs:18:8090:abcd', 'perl:5.26:1:2']) if is_modular else None
        return dict(name=name, version=version, source=source, source_version=source_version, arch=arch, module=module)

    def version(self):
        chance = self.chance
        version = '.'.join(chance.choice(['0', '1', '2', '9', '10', '11', '99', '2024']) for _ in range(chance.randint(1, 4)))
        if chance.random() < 0.35:
            version += chance.choice(SUFFIXES[self.style])
        if self.kind == 'rpm' or chance.random() < 0.85:
            version += '-' + chance.choice(RELEASES[self.style])
        if self.kind != 'apk' and chance.random() < 0.25:
            version = chance.choice('34') + ':' + version
        return version

    def near(self, version):
        """The same, or with one other digit."""
        place = self.chance.randrange(len(version))
        if not version[place].isdigit():
            return version
        changed = version[:place] + str((int(version[place]) + self.chance.choice([1, 9])) % 10) + version[place + 1 :]
        return version if self.kind == 'apk' and re.search(r'\.0\d', changed) else changed

    def id(self):
        chance = self.chance
        self.ids += 1
        number = f'{self.number}{self.ids:04}'
        id = chance.choice([f'CVE-2024-{number}'] * 6 + [f'TEMP-{number}-ABCDEF', f'GHSA-aaaa-bbbb-{number}', f'ADV-2024:{number}'])
        if chance.random() < 0.9:
            severities = {source: chance.randint(0, 4) for source in chance.sample(SOURCES + [self.source], 3)}
            detail = {'Title': id, 'Severity': chance.choice(['LOW', 'MEDIUM', 'HIGH', 'CRITICAL', 'UNKNOWN']), 'VendorSeverity': severities}
            self.rows.add(['vulnerability'], id, {**detail, 'VendorSeverity': severities if chance.random() < 0.9 else {}})
        return id

    def fix(self, owner):
        version = self.chance.choice([owner['version'], owner['source_version'], self.version()])
        return self.near(version)

    def row(self, name, owner):
        chance, id = self.chance, self.id()
        if owner['module'] and chance.random() < 0.7:
            name = ':'.join(owner['module'].split(':')[:2]) + '::' + name
        is_fixed = self.source not in UNFIXED or chance.random() < 0.75
        if self.source == 'redhat':
            entries = [self.red_hat_entry(id, owner) for _ in range(chance.randint(1, 3))]
            value = {'Entries': entries}
            id = id if id.startswith('CVE-') else f'RHSA-2024:{self.ids}'
        elif self.source in ('rocky', 'oracle-oval'):
            # No architecture twice: of several fixes Trivy takes the greatest text.
            arches = chance.sample([['x86_64', 'noarch'], ['aarch64', 'i686'], ['s390x']], chance.choice([1, 1, 2]))
            value = {'Entries': [{'FixedVersion': self.fix(owner), 'Arches': own, 'VendorIDs': [f'V-{self.ids}']} for own in arches]}
        else:
            value = {'FixedVersion': self.fix(owner)} if is_fixed else {}
            if self.source == 'debian':
                value |= {'Severity': chance.randint(0, 4), 'Status': 3 if is_fixed else chance.choice([0, 2, 4, 5, 6, 7])}
            if self.source == 'alpine' and chance.random() < 0.1:
                value['AffectedVersion'] = self.version()
            if chance.random() < 0.2:
                value['VendorIDs'] = [f'DSA-{self.ids}-1']
        self.rows.add([self.bucket, name], id, value)

    def red_hat_entry(self, id, owner):
        """The severity and the state of a vulnerability are the same in all entries: Trivy takes any of equal ones."""
        chance = self.chance
        others = [f'CVE-2023-{self.number}{self.ids:04}{number}' for number in range(3)]
        cves = [{'Severity': self.ids % 5}] if id.startswith('CVE-') else [{'ID': cve, 'Severity': int(cve[-1]) + 1} for cve in chance.sample(others, 2)]
        fixed = {'FixedVersion': chance.choice(['0:', '']) + self.fix(owner).split(':')[-1]} if chance.random() < 0.7 else {'Status': 5}
        arches = {'Arches': chance.sample(['x86_64', 'aarch64', 'noarch', 'i686'], 2)} if chance.random() < 0.5 else {}
        return {'Affected': chance.sample(range(10), chance.randint(1, 6)), 'Cves': cves, **fixed, **arches}

    def database(self, packages):
        if self.kind == 'deb':
            return 'var/lib/dpkg/status', ''.join(map(self.deb, packages))
        if self.kind == 'apk':
            entry = 'P:{name}\nV:{version}\nA:x86_64\nL:MIT\no:{source}\nm:X <x@x.test>\nt:1\n\n'
            return 'lib/apk/db/installed', ''.join(entry.format(**package) for package in packages)
        key = lab.rpm_header([(1000, 'gpg-pubkey'), (1001, 'fd431d51'), (1002, '4ae0493b')])
        return 'var/lib/rpm/rpmdb.sqlite', lab.rpm_database([*map(self.rpm, packages), key])

    def deb(self, package):
        maintainer = self.chance.choice(['X <x@lists.debian.org>'] * 20 + ['Docker <support@docker.com>', 'GitHub', 'X <x@x.test>'])
        state = self.chance.choice(['install ok installed', 'hold ok installed'])
        entry = 'Package: {name}\nStatus: {state}\nMaintainer: {maintainer}\nArchitecture: amd64\n'
        return (entry + 'Source: {source} ({source_version})\nVersion: {version}\nDescription: x\n y\n\n').format(**package, state=state, maintainer=maintainer)

    def rpm(self, package):
        epoch, _, version = package['version'].rpartition(':')
        version, _, release = version.rpartition('-')
        vendor = self.chance.choice([self.vendor] * 20 + ['Somebody else', 'Fedora Project'])
        source = f'{package["source"]}-{package["source_version"].split(":")[-1]}.src.rpm'
        epoch = int(epoch) if epoch else self.chance.choice([None, 0])
        return lab.rpm(package['name'], version, release, epoch, package['arch'], vendor, source, package['module'])


if __name__ == '__main__':
    lab.start(compare)
