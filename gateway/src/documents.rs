//! Tables in `docs/` that are made from the code: a test holds each to what it is made of.

/// Asserts that the table below `<!-- mark -->` in `docs/file` is `table`. With `WRITE_DOCS` in the
/// environment it is written anew.
pub(crate) fn assert_table(file: &str, mark: &str, table: &str) {
    // Tables of one file are written by tests that run at the same time.
    static WRITING: std::sync::Mutex<()> = std::sync::Mutex::new(());
    let _writing = WRITING.lock().unwrap();
    let path = format!("{}/../docs/{file}", env!("CARGO_MANIFEST_DIR"));
    let text = std::fs::read_to_string(&path).unwrap();
    let mark = format!("<!-- {mark} -->\n\n");
    let (before, rest) = text
        .split_once(&mark)
        .unwrap_or_else(|| panic!("docs/{file} has no mark {mark}"));
    let (found, after) = rest.split_once("\n\n").unwrap_or((rest.trim_end(), ""));
    if std::env::var_os("WRITE_DOCS").is_some() {
        let gap = if after.is_empty() { "" } else { "\n" };
        let made = format!("{before}{mark}{table}{gap}{after}");
        return std::fs::write(&path, made).unwrap();
    }
    assert_eq!(
        found,
        table.trim_end(),
        "docs/{file} is not what the code makes of it; WRITE_DOCS=1 writes it anew"
    );
}
