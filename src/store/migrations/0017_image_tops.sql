-- Images by their topmost layer: one that another image was built on has its topmost layer among the layers of that one. The
-- layer may have been in the cache, so that its repository never delivered it and there is no link.
CREATE TABLE image_tops (
    layer BLOB NOT NULL,
    host TEXT NOT NULL,
    repository TEXT NOT NULL,
    manifest BLOB NOT NULL,
    -- As other tables have it. Nothing is stored for this.
    manifest_digest TEXT AS (iif(length(manifest) = 32, 'sha256:', 'sha512:') || lower(hex(manifest))) VIRTUAL,
    PRIMARY KEY (layer, host, repository, manifest)
) WITHOUT ROWID;
-- Which layer of an image is the topmost one was not kept, but each layer serves. Of two members, one is not the configuration;
-- those that few images of the repository have find the fewest others.
INSERT INTO image_tops (layer, host, repository, manifest)
    SELECT unhex(rare.value), image.host, image.repository, image.manifest
    FROM (SELECT DISTINCT host, repository, manifest FROM members WHERE is_manifest = 0) AS image, json_each((
        SELECT json_group_array(hex(own.member)) FROM (
            SELECT member FROM members AS every
            WHERE every.host = image.host AND every.repository = image.repository AND every.manifest = image.manifest
            ORDER BY (SELECT COUNT(*) FROM (
                SELECT 1 FROM members AS other WHERE other.host = every.host AND other.repository = every.repository
                    AND other.member = every.member LIMIT 8)) LIMIT 2) AS own)) AS rare;
