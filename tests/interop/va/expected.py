"""Compares the answer of `pullgate va` with OSV's records: expected.py SCAN.json DIRECTORY-OF-ZIPS

It follows OSV's evaluation algorithm (ossf.github.io/osv-schema, "Evaluation") and shares nothing with pullgate. Prints the
number of records that apply for AlmaLinux, Go and PyPI, or fails with each difference.
"""

import functools
import json
import re
import subprocess
import sys
import zipfile

from pip._vendor.packaging.version import Version


@functools.cache
def compare_rpm(one, other):
    text = '%%{lua:print(rpm.vercmp("%s", "%s"))}' % (one, other)
    return int(subprocess.run(['rpm', '--eval', text], check=True, capture_output=True, text=True).stdout)


def rpm(text):
    return functools.cmp_to_key(compare_rpm)(text if ':' in text else '0:' + text)


def semver(text):
    text, _, pre = text.removeprefix('v').split('+')[0].partition('-')
    parts = [(0, int(part), '') if part.isdigit() else (1, 0, part) for part in pre.split('.')]
    return [int(part) for part in text.split('.')], not pre, parts


def normalised(name):
    return re.sub(r'[-_.]+', '-', name).lower()


def applies(affected, version, order):
    if version in affected.get('versions', []):
        return True
    own = order(version)
    for span in affected.get('ranges', []):
        if span['type'] == 'GIT':
            continue
        events = [(text, kind) for event in span['events'] for kind, text in event.items()]
        start = [event for event in events if event[0] == '0']
        rest = sorted((event for event in events if event[0] != '0'), key=lambda event: order(event[0]))
        inside = False
        for text, kind in start + rest:
            if kind == 'introduced' and (text == '0' or order(text) <= own):
                inside = True
            elif kind == 'fixed' and order(text) <= own or kind == 'last_affected' and order(text) < own:
                inside = False
        if inside:
            return True
    return False


def is_of_other_stream(package, module, affected, record):
    """Whether the record is about another stream of a module than the installed one: its summary alone says so."""
    def is_modular(version):
        return '.module+el' in version or '.module_el' in version

    fixes = [event['fixed'] for span in affected.get('ranges', []) for event in span['events'] if 'fixed' in event]
    if not fixes or not all(map(is_modular, fixes)):
        return False
    if not module:
        return not is_modular(package[1])
    name, stream = module.split(':')[:2]
    streams = re.findall(rf'\b{re.escape(name)}:(\S+?)(?=[\s,;]|$)', record.get('summary', ''))
    return bool(streams) and stream not in streams


def expected(archive, ecosystem, packages, order, name_of):
    """The records that apply, by package."""
    found = {package: {} for package in packages}
    with zipfile.ZipFile(archive) as records:
        for name in records.namelist():
            record = json.loads(records.read(name))
            for affected in [] if record.get('withdrawn') else record.get('affected', []):
                if affected['package']['ecosystem'] != ecosystem:
                    continue
                for package, module in packages.items():
                    is_named = name_of(package[0]) == name_of(affected['package']['name'])
                    if is_named and applies(affected, package[1], order) and not is_of_other_stream(package, module, affected, record):
                        found[package][record['id']] = record
    return found


def main():
    scan, records = json.load(open(sys.argv[1])), sys.argv[2]
    faults, counts = [], []
    sources = [
        ('AlmaLinux', 'AlmaLinux:9', 'rpm', rpm, str),
        ('Go', 'Go', 'go', semver, str),
        ('PyPI', 'PyPI', 'pypi', Version, normalised),
    ]
    listed = {}
    for issue in scan['issues']:
        ids = {issue['id'], *issue.get('aliases', [])}
        for package in issue['packages']:
            listed.setdefault((package['name'], package.get('installed')), []).append(ids)
    for source, ecosystem, kind, order, name_of in sources:
        packages = {(p['name'], p['version']): p.get('module') for p in scan['packages'] if p['ecosystem'] == kind and p['version']}
        wanted = expected(f'{records}/{source}.zip', ecosystem, packages, order, name_of)
        counts.append(sum(map(len, wanted.values())))
        for package, applicable in wanted.items():
            issues = listed.pop(package, [])
            known = set().union(*issues)
            for number, record in applicable.items():
                # A record of a distribution is about several vulnerabilities, any other about one with several names.
                names = [number, *record.get('aliases', []), *record.get('upstream', []), *record.get('related', [])]
                names = names if source == 'AlmaLinux' else names[: 1 + len(record.get('aliases', []))]
                faults += [f'{package}: {name} of {number} is missing' for name in names if name not in known]
            faults += [f'{package}: {ids} is in no record' for ids in issues if not ids & set(applicable)]
    faults += [f'{package} is in no package list' for package in listed]
    if faults:
        sys.exit('\n'.join(faults))
    print(*counts)


main()
