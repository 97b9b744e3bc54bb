"""What is listed as installed, in files as package managers write them and in damaged ones: packages.py DIRECTORY PULLGATE

Each difference is expected by name. docs/va.md explains them ("Differences from Trivy").
"""

import base64
import hashlib
import json

import lab
import programs
from programs import manifest, pom, zipped

SITE, GEMS, NODE = 'usr/lib/python3/site-packages', 'usr/lib/ruby/gems/3.1.0/specifications', 'app/node_modules'
DEBIAN = [('etc/debian_version', '12.5\n'), ('etc/os-release', 'ID=debian\nVERSION_ID="12"\n')]
ALPINE = [('etc/alpine-release', '3.22.1\n'), ('etc/os-release', 'ID=alpine\nVERSION_ID=3.22.1\n')]
ALMA = [('etc/almalinux-release', 'AlmaLinux release 9.4 (X)\n'), ('etc/os-release', 'ID="almalinux"\nVERSION_ID="9.4"\n')]


def node(name, version, **more):
    return f'{NODE}/{name}/package.json', json.dumps({'name': name, 'version': version, **more})


def metadata(name, version, more=''):
    return f'Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n{more}\ntext\n'


def dist_info(name, text):
    return f'{SITE}/{name}-1.0.dist-info/METADATA', text


def gem(name, text):
    return f'{GEMS}/{name}.gemspec', f'Gem::Specification.new do |s|\n{text}end\n'


def deb(name, version='1', state='install ok installed', more=''):
    status = f'Status: {state}\n' if state else ''
    return f'Package: {name}\n{status}Version: {version}\nArchitecture: amd64\nMaintainer: X <x@debian.org>\n{more}\n'


def checksum(algorithm, content):
    return hashlib.new(algorithm, content.encode() if isinstance(content, str) else content).digest()


def apk(*packages):
    entry = 'P:{0}\nV:{1}\nA:x86_64\no:{0}\nL:MIT\n{2}\n'
    return 'lib/apk/db/installed', ''.join(entry.format(*package) for package in packages)


def compare(directory, pullgate):
    rows = lab.Rows()
    for bucket in ('cargo::x', 'go::x', 'composer::x', 'maven::x', 'npm::x', 'nuget::x', 'pip::x', 'rubygems::x', 'debian 12', 'alpine 3.22', 'alma 9'):
        rows.add([bucket, 'unused'], 'CVE-2024-1', {'FixedVersion': '1', 'VulnerableVersions': ['<1']})
    scanners = lab.Scanners(rows, directory, pullgate)
    for languages in (npm, python, go, rust, ruby, php, dotnet, java):
        languages(scanners)
    for systems in (debian, others, layers):
        systems(scanners)
    licences(scanners)
    scanners.validate(lab.bill_problem(), 'va', '--output', 'cyclonedx')
    scanners.finish()


def npm(scanners):
    files = [
        node('a', '1.0.0', license='MIT'), node('@s/b', '1.2.3', license={'type': 'ISC'}), node('odd', 'not semver'),
        node('licences', '1.2.3', licenses=[{'type': 'ISC'}]), node('bad name', '1.0.0'), node('spaced', ' 1.2.3 '),
        node('rxjs', '7.0.0'), (f'{NODE}/rxjs/ajax/package.json', '{"name": "rxjs/ajax", "version": "1.0.0"}'),
        (f'{NODE}/rxjs/sub/package.json', '{"name": "sub", "version": "2.0.0"}'),
        (f'{NODE}/.pnpm/x@1.0.0/node_modules/x/package.json', '{"name": "x", "version": "1.0.0"}'),
        (f'{NODE}/unversioned/package.json', '{"name": "unversioned"}'), ('app/unnamed/package.json', '{"version": "1"}'),
        (f'{NODE}/number/package.json', '{"name": "number", "version": 1}'), (f'{NODE}/empty/package.json', ''),
        (f'{NODE}/twice/package.json', '{"name": "twice", "version": "1.0.0", "version": "2.0.0"}'),
        (f'{NODE}/trailing/package.json', '{"name": "trailing", "version": "1.0.0"} x'),
        ('app/package.json', '{"name": "app", "version": "0.1.0", "workspaces": ["a"]}'),
        ('app/package-lock.json', '{"lockfileVersion": 3, "packages": {"node_modules/locked": {"version": "9.9.9"}}}'),
        ('app/yarn.lock', '# yarn lockfile v1\n\n\nlocked@^1.0.0:\n  version "1.0.0"\n'), ('app/PACKAGE.JSON', '{"name": "upper", "version": "1"}'),
        # Differences.
        (f'{NODE}/case/package.json', '{"Name": "case", "VERSION": "1.0.0"}'), node('dependencies', '1.0.0', dependencies=[]),
        (f'{NODE}/mark/package.json', '\ufeff{"name": "mark", "version": "1.0.0"}'), (f'{NODE}/unnamed/package.json', '{"version": "1"}'),
    ]
    expected = [('trivy', 'case', '1.0.0'), ('pullgate', 'dependencies', '1.0.0'), ('pullgate', 'mark', '1.0.0'), ('pullgate', 'unnamed', '1')]
    scanners.compare('npm', [files], expected)


def python(scanners):
    files = [
        dist_info('a', metadata('a', '1.0', 'License: MIT\n')), dist_info('Odd.Name_x', metadata('Odd.Name_x', '1.0')),
        dist_info('lower', 'name: lower\nVERSION: 1.0\n\n'), dist_info('crlf', 'Name: crlf\r\nVersion: 1.0\r\n\r\nx'),
        dist_info('unended', 'Name: unended\nVersion: 1.0'), dist_info('folded', 'Name: folded\nSummary: x\n y\nVersion: 1.0\n'),
        dist_info('latin', b'Name: latin\nVersion: 1.0\nSummary: caf\xe9\n\n'), dist_info('spaced', 'Name:  spaced \nVersion:\t1.0\n\n'),
        dist_info('twice', 'Name: twice\nName: thrice\nVersion: 1.0\nVersion: 2.0\n\n'),
        (f'{SITE}/b-1.0.egg-info/PKG-INFO', metadata('b', '1.0')), (f'{SITE}/c-1.0.egg-info', metadata('c', '1.0')),
        (f'{SITE}/d-1.0.egg/EGG-INFO/PKG-INFO', metadata('d', '1.0')), (f'{SITE}/e-1.0.egg-info/METADATA', metadata('e', '1.0')),
        (f'{SITE}/zipped-1.0.egg', zipped([('EGG-INFO/PKG-INFO', metadata('zipped', '1.0'))])),
        (f'{SITE}/f-1.0.dist-info/sub/METADATA', metadata('f', '1.0')), (f'{SITE}/METADATA', metadata('g', '1.0')),
        ('app/requirements.txt', 'locked==1.0\n'), ('app/poetry.lock', '[[package]]\nname = "locked"\nversion = "1.0"\n'),
        # Differences.
        dist_info('unnamed', 'Metadata-Version: 2.1\nVersion: 1.0\n\n'), dist_info('unversioned', 'Name: unversioned\n\n'),
        dist_info('blank', '\nName: blank\nVersion: 1.0\n'), dist_info('broken', 'Name: broken\nno field\nVersion: 1.0\n\n'),
        dist_info('other', metadata('other', '2.0')), (f'{SITE}/UPPER-1.0.DIST-INFO/METADATA', metadata('UPPER', '1.0')),
    ]
    names = ('unnamed', 'unversioned', 'blank', 'broken', 'other', 'UPPER')
    scanners.compare('python', [files], [('pullgate', name, '1.0') for name in names])


def go(scanners):
    def program(name, version='go1.22.3', own='(devel)', modules=(), flags=None, mode=0o755):
        settings = [('-ldflags', json.dumps(flags))] if flags else []
        return f'bin/{name}', programs.go(version, 'x.test/app', own and ('x.test/app', own), modules, settings), mode

    files = [
        program('devel', modules=[('golang.org/x/net', 'v0.7.0')]), program('one', 'go1.21', 'v1.0.0'),
        program('flags', flags='-s -w -X main.version=v1.2.3'), program('path', flags='-X x.test/app/version.Version=4.5.6'),
        program('named', flags='-X main.commit=abc -X main.version=dev'), program('own', flags='-X x.test/app/cmd/app.ver=7.8.9'),
        program('pseudo', own='v0.0.0-20240101000000-abcdef123456+dirty'), program('dirty', 'go1.24.1', 'v1.2.3+dirty'),
        program('replaced', own='v1.0.0', modules=[('a.test/x', 'v1.0.0', 'b.test/y', 'v2.0.0'), ('c.test/z', 'v1.0.0', './z', '')]),
        program('experiment', 'go1.22.3 X:boringcrypto'), program('candidate', 'go1.22rc1'), program('fips', 'go1.22.3-fips'),
        ('app/go.mod', 'module x\n\ngo 1.20\n\nrequire golang.org/x/net v0.1.0\n'),
        # Differences.
        program('tip', 'devel go1.23-abcdef Mon Jan 1', 'v1.0.0'), program('data', own='v3.0.0', mode=0o644),
    ]
    expected = [('trivy', 'stdlib', 'vdevel go1.23-abcdef Mon Jan 1'), ('pullgate', 'stdlib', 'vdevel')]
    expected += [('pullgate', 'stdlib', 'v1.22.3'), ('pullgate', 'x.test/app', 'v3.0.0')]
    scanners.compare('go', [files], expected)
    # Both list the standard library alone; only one says that there may be more.
    scanners.compare('go-without-modules', [[program('nomain', own=None)]], [], gaps=True)


def rust(scanners):
    packages = [
        {'name': 'root', 'version': '0.1.0', 'source': 'local', 'root': True, 'dependencies': [1, 2]},
        {'name': 'serde', 'version': '1.0.0', 'source': 'crates.io'}, {'name': 'git', 'version': '0.1.0', 'source': 'git'},
        {'name': 'cc', 'version': '1.0.79', 'source': 'crates.io', 'kind': 'build'},
    ]
    data = [{'name': 'data', 'version': '0.1.0', 'source': 'local', 'root': True}]
    files = [('bin/app', programs.rust(packages), 0o755), ('bin/data', programs.rust(data))]
    files += [('app/Cargo.lock', 'version = 3\n[[package]]\nname = "locked"\nversion = "1.0.0"\n')]
    scanners.compare('rust', [files], [('pullgate', 'data', '0.1.0'), ('trivy', 'locked', '1.0.0')])


def ruby(scanners):
    plain = '  s.name = "{0}".freeze\n  s.version = "1.0"{1}\n  s.licenses = ["MIT".freeze]\n'
    files = [
        gem('a-1.0', plain.format('a', '')), gem('default/b-1.0', plain.format('b', '')), gem('c-1.0', plain.format('c', '.freeze')),
        gem('native-1.0-x86_64-linux', plain.format('native', '')), ('opt/specifications/y-1.0.gemspec', gem('', plain.format('y', ''))[1]),
        ('app/z.gemspec', gem('', plain.format('z', ''))[1]), ('app/Gemfile.lock', 'GEM\n  specs:\n    locked (1.0)\n'),
        # Differences.
        gem('d-1.0', "  s.name = 'd'\n  s.version = Gem::Version.new('1.0')\n"), gem('e-1.0', '  s.name = %q{e}\n  s.version = "1.0"\n'),
        gem('f-1.0', '  s.name = "f"\n  s.version = F::VERSION\n'), gem('other-2.0', plain.format('other', '')),
    ]
    expected = [('trivy', '%q{e}', '1.0'), ('trivy', 'd', "Gem::Version.new('1.0')"), ('trivy', 'f', 'F::VERSION')]
    expected += [('pullgate', 'd', '1.0'), ('pullgate', 'e', '1.0'), ('pullgate', 'f', '1.0'), ('pullgate', 'other', '2.0')]
    scanners.compare('ruby', [files], expected)


def php(scanners):
    listed = [('symfony/http-kernel', 'v5.4.1'), ('acme/branch', 'dev-main'), ('Acme/Upper', '1.0.0')]
    files = [
        ('app/vendor/composer/installed.json', programs.composer(listed)), ('app/composer.lock', programs.composer([('locked/locked', '1.0')])),
        ('opt/libraries/composer/installed.json', json.dumps({'packages': [{'name': 'a/b', 'version': '2', 'license': 'MIT', 'require': {'php': '*'}}]})),
        # Differences.
        ('old/vendor/composer/installed.json', json.dumps([{'name': 'old/one', 'version': '1.0'}])),
    ]
    scanners.compare('php', [files], [('pullgate', 'old/one', '1.0')])


def dotnet(scanners):
    runtime = {'libraries': {'runtimepack.Microsoft.NETCore.App.Runtime.linux-x64/8.0.1': {'type': 'runtimepack'}, 'x/1': {'type': 'reference'}}}
    files = [
        ('app/App.deps.json', programs.dotnet([('Newtonsoft.Json', '9.0.1'), ('x.y', '1.0.0.5')], [('To.Compile', '1.0')])),
        ('app/Self.deps.json', json.dumps(runtime)), ('app/App.runtimeconfig.json', '{}'),
    ]
    scanners.compare('dotnet', [files])


def java(scanners):
    inner = zipped([manifest(), pom('in.ner', 'inner', '1.0')])
    deep = zipped([manifest(), pom('de.ep', 'deep', '1'), ('x/inner.jar', inner)])
    same = [manifest(), pom('org.same', 'same', '1.0')]
    files = [
        ('opt/a-1.0.jar', zipped([manifest(), pom('org.a', 'a', '1.0')])), ('opt/renamed.jar', zipped([manifest(), pom('org.r', 'r', '1.0')])),
        ('opt/copy/a-1.0.jar', zipped([manifest(), pom('org.a', 'a', '1.0')])), ('opt/UP.JAR', zipped([manifest(), pom('org.up', 'up', '1.0')])),
        ('opt/shaded-1.0.jar', zipped([manifest(), pom('org.s', 'shaded', '1.0'), pom('org.s', 'other', '2.0')])),
        ('opt/boot-1.0.jar', zipped([manifest(), pom('org.n', 'boot', '1.0'), ('BOOT-INF/lib/inner-1.0.jar', inner)])),
        ('opt/w.war', zipped([manifest(), ('WEB-INF/lib/inner-1.0.jar', inner), ('WEB-INF/lib/deep.jar', deep)])),
        ('opt/e.ear', zipped([manifest(), ('inner-1.0.jar', inner)])), ('opt/p.par', zipped([manifest(), ('inner-1.0.jar', inner)])),
        ('opt/same-1.0.jar', zipped([*same, ('lib/same-1.0.jar', zipped(same))])),
        ('app/pom.xml', '<project><groupId>g</groupId><artifactId>x</artifactId><version>1</version></project>'),
    ]
    scanners.compare('java', [files])
    nested = zipped([manifest(), ('WEB-INF/lib/tool.jar', programs.PUBLISHED)])
    scanners.compare('java-checksum', [[('opt/renamed.jar', programs.PUBLISHED), ('opt/w.war', nested)]])
    files = [
        ('opt/vendor-1.0.jar', zipped([manifest(Implementation_Vendor_Id='org.m', Implementation_Title='vendor', Implementation_Version='1.0')])),
        ('opt/bundle-1.0.jar', zipped([manifest(Bundle_SymbolicName='org.m.bundle', Bundle_Version='1.0.0', Bundle_Name='x')])),
        ('opt/named-1.2.3.jar', zipped([manifest(), ('x.class', 'x')])), ('opt/unextended', zipped([manifest(), pom('org.no', 'unextended', '1.0')])),
    ]
    expected = [('org.m:vendor', '1.0'), ('org.m:x', '1.0.0'), ('named', '1.2.3'), ('org.no:unextended', '1.0')]
    scanners.compare('java-unknown', [files], [('pullgate', *package) for package in expected], gaps=True)


def debian(scanners):
    states = ['install ok installed', 'hold ok installed', 'install ok half-configured', 'install ok unpacked', 'install ok triggers-awaited']
    states += ['install reinstreq half-installed', 'deinstall ok config-files', '']
    status = ''.join(deb(f'state{number}', state=state) for number, state in enumerate(states))
    status += deb('library', '1:2.0-1', more='Source: src (1.5-1+b1)\n') + deb('binary', '3.0-1+b1', more='Source: binary (3.0-1)\n')
    status += 'package: lower\nstatus: install ok installed\nversion: 1\narchitecture: amd64\n\n'
    # Differences.
    status += deb('removed', state='deinstall ok installed') + deb('purged', state='purge ok installed') + deb('absent', state='unknown ok not-installed')
    expected = [('pullgate', 'removed', '1'), ('pullgate', 'purged', '1'), ('trivy', 'absent', '1')]
    scanners.compare('debian', [[*DEBIAN, ('var/lib/dpkg/status', status)]], expected)
    parts = ('base-files', 'tzdata', 'netbase')
    distroless = [(f'var/lib/dpkg/status.d/{name}', deb(name, state='')) for name in parts]
    distroless += [('var/lib/dpkg/status.d/netbase.md5sums', '00  etc/x\n')]
    upper = [('var/lib/dpkg/status.d/libssl3', deb('libssl3', '3.0.11-1', more='Source: openssl\n'))]
    scanners.compare('distroless', [[*DEBIAN, *distroless], upper, [('var/lib/dpkg/status.d/.wh.tzdata', '')]])
    files = [
        ('python3-six', 'usr/lib/python3/dist-packages/six-1.16.egg-info/PKG-INFO', metadata('six', '1.16')),
        ('node-y:amd64', 'usr/share/nodejs/y/package.json', '{"name": "y", "version": "1.0.0"}'),
        ('libq-java', 'usr/share/java/q-1.0.jar', zipped([manifest(), pom('org.q', 'q', '1.0')])),
    ]
    owned = [
        ('var/lib/dpkg/status', deb('python3-six') + deb('node-y') + deb('libq-java') + deb('ruby-z')),
        *((f'var/lib/dpkg/info/{name}.md5sums', f'{checksum("md5", content).hex()}  {path}\n') for name, path, content in files),
        *((path, content) for _, path, content in files),
        ('var/lib/dpkg/info/node-y.list', '/usr/share/nodejs/w/package.json\n'),
        ('usr/share/nodejs/w/package.json', '{"name": "w", "version": "1.0.0"}'),
    ]
    scanners.compare('owned', [[*DEBIAN, *owned]])


def others(scanners):
    owned = ('usr/lib/python3.12/site-packages/six-1.16.egg-info/PKG-INFO', metadata('six', '1.16'))
    sha1 = base64.b64encode(checksum('sha1', owned[1])).decode()
    files = f'F:usr/lib/python3.12/site-packages/six-1.16.egg-info\nR:PKG-INFO\nZ:Q1{sha1}\n'
    lower = [*ALPINE, apk(('musl', '1.2.4-r2', ''), ('py3-six', '1.16.0-r6', files), ('.deps', '20240101.000000', '')), owned]
    scanners.compare('alpine', [lower])
    scanners.compare('alpine-upper', [lower, [apk(('musl', '1.2.4-r3', ''))]])
    kernels = [lab.rpm('kernel', '5.14', release, vendor='AlmaLinux') for release in ('1.el9', '2.el9')]
    libraries = [lab.rpm('glibc', '2.34', '1.el9', 0, arch, 'AlmaLinux', 'glibc-2.34-1.el9.src.rpm') for arch in ('x86_64', 'i686')]
    more = [lab.rpm('other', '1', '1', vendor='Somebody else'), lab.rpm('epoch', '1~rc1', '1^x', 3, vendor='AlmaLinux', module='nodejs:18:1:2')]
    lower = [*ALMA, ('var/lib/rpm/rpmdb.sqlite', lab.rpm_database([*kernels, *libraries, *more]))]
    scanners.compare('rpm', [lower, [('usr/lib/sysimage/rpm/rpmdb.sqlite', lab.rpm_database([lab.rpm('second', '1', '1', vendor='AlmaLinux')]))]])


def layers(scanners):
    lower = [
        *DEBIAN, ('var/lib/dpkg/status', deb('a', '1') + deb('b')), node('x', '1.0.0'), node('y', '1.0.0'), dist_info('a', metadata('a', '1.0')),
        ('srv/o/node_modules/z/package.json', '{"name": "z", "version": "1.0.0"}'), ('opt/j.jar', zipped([manifest(), pom('org.j', 'j', '1')])),
    ]
    middle = [
        ('var/lib/dpkg/status', deb('a', '2') + deb('c')), (f'{NODE}/.wh.x', ''), node('y', '2.0.0'), ('srv/o/.wh..wh..opq', ''),
        ('srv/o/node_modules/w/package.json', '{"name": "w", "version": "1.0.0"}'), (f'{SITE}/.wh.a-1.0.dist-info', ''),
        (f'{SITE}/a-1.1.dist-info/METADATA', metadata('a', '1.1')),
    ]
    upper = [('var/lib/dpkg/status', deb('a', '2') + deb('c') + deb('d')), ('opt/.wh.j.jar', ''), ('app/.wh.node_modules', '')]
    scanners.compare('layers', [lower, middle, upper, [node('v', '1.0.0')]])


def licences(scanners):
    """Trivy takes a name without a version for one licence, and does not know that X11 is another name of MIT here."""
    texts = ['MIT', 'GPL-2.0-only', 'Apache License, Version 2.0', 'GPLv2+', 'MIT/X11', 'ASL 2.0', 'BSD-3-clause', 'The Unlicense', 'Apache 2', 'ISC License (ISCL)']
    classifier = 'Classifier: License :: OSI Approved :: GNU General Public License v3 or later (GPLv3+)\n'
    copyright = 'Format: https://www.debian.org/doc/packaging-manuals/copyright-format/1.0/\n\nFiles: *\nLicense: {}\n\n'
    files = [
        *DEBIAN, *(node(f'n{number}', '1.0.0', license=text) for number, text in enumerate(texts)),
        dist_info('gpl', metadata('gpl', '1.0', classifier)), dist_info('expression', metadata('expression', '1.0', 'License-Expression: MIT OR Apache-2.0\n')),
        gem('ruby-1.0', '  s.name = "ruby".freeze\n  s.version = "1.0"\n  s.licenses = ["MIT".freeze, "Ruby".freeze]\n'),
        ('var/lib/dpkg/status', deb('one') + deb('two') + deb('common')),
        ('usr/share/doc/one/copyright', copyright.format('GPL-2+')), ('usr/share/doc/two/copyright', copyright.format('Expat') + copyright.format('LGPL-2.1')),
        ('usr/share/doc/common/copyright', 'See /usr/share/common-licenses/GPL-3.\n'),
        # Differences.
        node('unclear', '1.0.0', license='BSD'),
    ]
    scanners.compare_licences('licences', [files], {'unclear': ({'BSD-3-Clause'}, {'BSD'}), 'n4': ({'MIT/X11'}, {'MIT'})})
    lower = [*ALPINE, apk(('musl', '1.2.4-r2', ''))]
    scanners.compare_licences('licences-apk', [lower])


if __name__ == '__main__':
    lab.start(compare)
