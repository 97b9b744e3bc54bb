-- What the manifests on this node's disk name. Eviction asks this table: facts about repositories may be shared with other
-- gates one day, and say nothing about this disk. Rows come and go with the manifest's row in `contents`.
CREATE TABLE content_parts (
    manifest TEXT NOT NULL,
    part TEXT NOT NULL,
    is_manifest BIGINT NOT NULL,
    PRIMARY KEY (manifest, part)
) WITHOUT ROWID;
CREATE INDEX content_parts_by_part ON content_parts (part);
INSERT OR IGNORE INTO content_parts
    SELECT members.manifest, members.member, members.is_manifest
    FROM members JOIN contents ON contents.digest = members.manifest;

-- Only eviction used these.
DROP INDEX members_by_member_alone;
DROP INDEX members_by_manifest;
