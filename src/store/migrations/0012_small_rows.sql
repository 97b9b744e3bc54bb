-- Digests as raw hashes take half of the space that they take as text. The length of a hash tells its algorithm; both names
-- of algorithms have seven characters with the colon.

-- What a manifest on disk names refers to it by number. Hashes are random, so each row in the order of hashes costs a page;
-- in the order of numbers, the rows of many manifests share one.
CREATE TABLE contents_by_hash (
    id INTEGER PRIMARY KEY,
    digest BLOB NOT NULL UNIQUE,
    size BIGINT NOT NULL,
    is_manifest BIGINT NOT NULL,
    used_at BIGINT NOT NULL
);
INSERT INTO contents_by_hash (digest, size, is_manifest, used_at)
    SELECT unhex(substr(digest, 8)), size, is_manifest, used_at FROM contents;
CREATE TABLE parts_by_number (
    manifest INTEGER NOT NULL,
    part BLOB NOT NULL,
    is_manifest BIGINT NOT NULL,
    PRIMARY KEY (manifest, part)
) WITHOUT ROWID;
INSERT INTO parts_by_number
    SELECT contents_by_hash.id, unhex(substr(part, 8)), content_parts.is_manifest
    FROM content_parts JOIN contents_by_hash
    ON contents_by_hash.digest = unhex(substr(manifest, 8));
DROP TABLE contents;
DROP TABLE content_parts;
ALTER TABLE contents_by_hash RENAME TO contents;
ALTER TABLE parts_by_number RENAME TO content_parts;
CREATE INDEX contents_by_use ON contents (is_manifest, used_at);
CREATE INDEX content_parts_by_part ON content_parts (part);

CREATE TABLE members_by_hash (
    host TEXT NOT NULL,
    repository TEXT NOT NULL,
    manifest BLOB NOT NULL,
    member BLOB NOT NULL,
    is_manifest BIGINT NOT NULL,
    -- As other tables have them. Nothing is stored for these.
    manifest_digest TEXT AS (iif(length(manifest) = 32, 'sha256:', 'sha512:') || lower(hex(manifest))) VIRTUAL,
    member_digest TEXT AS (iif(length(member) = 32, 'sha256:', 'sha512:') || lower(hex(member))) VIRTUAL,
    PRIMARY KEY (host, repository, manifest, member)
) WITHOUT ROWID;
INSERT INTO members_by_hash (host, repository, manifest, member, is_manifest)
    SELECT host, repository, unhex(substr(manifest, 8)), unhex(substr(member, 8)), is_manifest FROM members;
DROP TABLE members;
ALTER TABLE members_by_hash RENAME TO members;
CREATE INDEX members_by_member ON members (host, repository, member);

CREATE TABLE pinned_by_hash (
    image TEXT NOT NULL,
    manifest BLOB NOT NULL,
    PRIMARY KEY (image, manifest)
) WITHOUT ROWID;
INSERT INTO pinned_by_hash SELECT image, unhex(substr(manifest, 8)) FROM pinned_manifests;
DROP TABLE pinned_manifests;
ALTER TABLE pinned_by_hash RENAME TO pinned_manifests;
CREATE INDEX pinned_manifests_by_manifest ON pinned_manifests (manifest);

-- The manifests of verdicts, in the order of the verdicts and with two or three on a page. By their digests, each took a
-- page of its own besides its row.
CREATE TABLE manifests_of_verdicts (
    verdict INTEGER PRIMARY KEY,
    media_type TEXT NOT NULL,
    bytes BLOB NOT NULL
);
INSERT INTO manifests_of_verdicts
    SELECT verdicts.id, media_type, bytes FROM verdicts JOIN verdict_manifests USING (digest);
DROP TABLE verdict_manifests;
ALTER TABLE manifests_of_verdicts RENAME TO verdict_manifests;
