-- These rows are found by their primary keys. Without row IDs the key and the row are in one tree, so that a new row changes
-- fewer pages.
CREATE TABLE contents_by_digest (
    digest TEXT PRIMARY KEY,
    size BIGINT NOT NULL,
    is_manifest BIGINT NOT NULL,
    used_at BIGINT NOT NULL
) WITHOUT ROWID;
INSERT INTO contents_by_digest SELECT digest, size, is_manifest, used_at FROM contents;
DROP TABLE contents;
ALTER TABLE contents_by_digest RENAME TO contents;
CREATE INDEX contents_by_use ON contents (is_manifest, used_at);

CREATE TABLE members_by_manifest (
    host TEXT NOT NULL,
    repository TEXT NOT NULL,
    manifest TEXT NOT NULL,
    member TEXT NOT NULL,
    is_manifest BIGINT NOT NULL,
    PRIMARY KEY (host, repository, manifest, member)
) WITHOUT ROWID;
INSERT INTO members_by_manifest SELECT host, repository, manifest, member, is_manifest FROM members;
DROP TABLE members;
ALTER TABLE members_by_manifest RENAME TO members;
CREATE INDEX members_by_member ON members (host, repository, member);
