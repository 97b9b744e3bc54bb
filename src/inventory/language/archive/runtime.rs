//! Archives of Java's own runtime and tools that neither state an artifact nor say in their manifest what they are.

use super::split_path;

/// The magic number of a JMOD file, which precedes the archive (`jdk.internal.jmod.JmodFile`).
const JMOD: &[u8] = b"JM\x01";
/// The directory of the classes in a JMOD file. Java finds no classes there: it looks for `a.B` at `a/B.class`.
const CLASSES_OF_JMOD: [&str; 1] = ["classes/"];

/// Archives of a JDK 8 whose manifest is empty, and where their classes are (OpenJDK 8, `jdk/make/CreateJars.gmk`).
/// Published libraries with known vulnerabilities have no classes there, so none can pass for one of them.
const OF_JDK_8: [(&str, &[&str]); 12] = [
    ("charsets.jar", &["sun/awt/", "sun/nio/cs/ext/"]),
    ("cldrdata.jar", &["sun/text/", "sun/util/"]),
    ("ct.sym", &["META-INF/sym/"]),
    ("dnsns.jar", &["sun/net/spi/nameservice/"]),
    ("dt.jar", &["javax/swing/", "sun/swing/"]),
    ("jaccess.jar", &["com/sun/java/accessibility/"]),
    ("jconsole.jar", &["com/sun/tools/jconsole/", "sun/tools/jconsole/"]),
    ("localedata.jar", &["sun/text/", "sun/util/"]),
    ("nashorn.jar", &["jdk/internal/", "jdk/nashorn/"]),
    ("sa-jdi.jar", &["com/sun/java/swing/", "sun/jvm/"]),
    (
        "tools.jar",
        &[
            "com/sun/codemodel/",
            "com/sun/istack/internal/tools/",
            "com/sun/jarsigner/",
            "com/sun/javadoc/",
            "com/sun/jdi/",
            "com/sun/source/",
            "com/sun/tools/",
            "com/sun/xml/internal/dtdparser/",
            "com/sun/xml/internal/rngom/",
            "com/sun/xml/internal/xsom/",
            "org/relaxng/datatype/",
            "sun/",
        ],
    ),
    ("zipfs.jar", &["com/sun/nio/zipfs/"]),
];

/// Whether the file is a JMOD file, from which `jlink` builds runtimes.
pub(super) fn is_jmod(first_bytes: &[u8]) -> bool {
    first_bytes.starts_with(JMOD)
}

/// Where an archive has classes that are not its own, but the runtime's: an archive with other classes is a library all
/// the same. Those of a JDK 8 are in `lib`, `jre/lib` and `jre/lib/ext`.
pub(super) fn folders(path: &str, first_bytes: &[u8]) -> &'static [&'static str] {
    if is_jmod(first_bytes) {
        return &CLASSES_OF_JMOD;
    }
    let (folder, name) = split_path(path);
    let folder = folder.strip_suffix("/ext").unwrap_or(folder);
    let known = OF_JDK_8.iter().find(|(known, _)| *known == name && split_path(folder).1 == "lib");
    known.map_or(&[], |(_, folders)| *folders)
}
