//! Archives that must not be unpacked, each made byte by byte.

use std::fs;
use std::io::Write;
use std::os::unix::fs::PermissionsExt;

use tar::{Builder, EntryType, Header};

use super::*;

/// A header with this name as it is: the tar crate's own setters refuse hostile ones.
fn header(name: &[u8], kind: EntryType, size: u64) -> Header {
    let mut header = Header::new_ustar();
    assert!(name.len() <= 100);
    header.as_old_mut().name[..name.len()].copy_from_slice(name);
    header.set_entry_type(kind);
    header.set_size(size);
    header.set_mode(0o644);
    header.set_cksum();
    header
}

#[derive(Default)]
struct Tar(Vec<(Header, Vec<u8>)>);

impl Tar {
    fn entry(mut self, name: impl AsRef<[u8]>, kind: EntryType, content: &[u8]) -> Self {
        self.0.push((header(name.as_ref(), kind, content.len() as u64), content.to_vec()));
        self
    }

    fn file(self, name: impl AsRef<[u8]>) -> Self {
        self.entry(name, EntryType::Regular, b"content")
    }

    fn plain(self) -> Vec<u8> {
        let mut builder = Builder::new(Vec::new());
        for (header, content) in self.0 {
            builder.append(&header, content.as_slice()).unwrap();
        }
        builder.into_inner().unwrap()
    }

    fn packed(self) -> Vec<u8> {
        pack(&self.plain())
    }
}

fn pack(plain: &[u8]) -> Vec<u8> {
    let mut encoder = zstd::Encoder::new(Vec::new(), 3).unwrap();
    encoder.include_checksum(true).unwrap();
    encoder.write_all(plain).unwrap();
    encoder.finish().unwrap()
}

fn pax(records: &[(&str, &str)]) -> Vec<u8> {
    let mut body = Vec::new();
    for (key, value) in records {
        let rest = key.len() + value.len() + 3;
        let mut length = rest + 1;
        while length != rest + length.to_string().len() {
            length = rest + length.to_string().len();
        }
        writeln!(body, "{length} {key}={value}").unwrap();
    }
    body
}

/// Unpacks with `limits` and checks that a refusal leaves nothing behind.
fn unpack_within(packed: &[u8], limits: &Limits) -> Result<Vec<String>, Error> {
    let dir = tempfile::tempdir().unwrap();
    let dest = dir.path().join("out");
    let result = extract(packed, &dest, limits);
    let left: Vec<_> = fs::read_dir(dir.path()).unwrap().map(|e| e.unwrap().file_name()).collect();
    match result {
        Ok(extracted) => {
            assert_eq!(left, ["out"]);
            let mut files = Vec::new();
            walk(&dest, &dest, &mut files);
            assert_eq!(files.len() as u64, extracted.files);
            Ok(files)
        }
        Err(error) => {
            assert!(left.is_empty(), "{error}: left {left:?}");
            Err(error)
        }
    }
}

fn walk(root: &Path, dir: &Path, files: &mut Vec<String>) {
    for entry in fs::read_dir(dir).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            walk(root, &path, files);
        } else {
            files.push(path.strip_prefix(root).unwrap().to_str().unwrap().to_owned());
        }
    }
    files.sort();
}

fn unpack(packed: &[u8]) -> Result<Vec<String>, Error> {
    unpack_within(packed, &Limits::default())
}

fn small() -> Limits {
    Limits {
        packed_bytes: 64 << 10,
        unpacked_bytes: 1 << 20,
        entries: 10,
        ratio: 20,
        ratio_free_bytes: 16 << 10,
    }
}

#[test]
fn files_and_folders_are_unpacked_with_masked_modes() {
    let mut tar = Tar::default()
        .entry("tests/", EntryType::Directory, b"")
        .file("tests/a.spec.js")
        .file("package.json");
    let mut tool = header(b"tool.sh", EntryType::Regular, 2);
    tool.set_mode(0o4777);
    tool.set_cksum();
    tar.0.push((tool, b"#!".to_vec()));
    let dir = tempfile::tempdir().unwrap();
    let dest = dir.path().join("out");
    let done = extract(tar.packed().as_slice(), &dest, &Limits::default()).unwrap();
    assert_eq!(done, Extracted { files: 3, bytes: 16 });
    assert_eq!(fs::read_to_string(dest.join("tests/a.spec.js")).unwrap(), "content");
    assert_eq!(fs::metadata(dest.join("tool.sh")).unwrap().permissions().mode() & 0o7777, 0o755);
    assert_eq!(fs::metadata(dest.join("package.json")).unwrap().permissions().mode() & 0o7777, 0o644);
}

#[test]
fn a_long_name_comes_in_a_pax_header_and_must_be_good_too() {
    let long = format!("{}/{}.spec.js", "d".repeat(120), "f".repeat(200));
    let with = |name: &str| {
        Tar::default().entry("pax", EntryType::XHeader, &pax(&[("path", name)])).file("short").packed()
    };
    assert_eq!(unpack(&with(&long)).unwrap(), [long]);
    for bad in ["../outside", "/etc/passwd", "a/../../b"] {
        assert!(matches!(unpack(&with(bad)), Err(Error::Name { .. })), "{bad}");
    }
}

#[test]
fn an_existing_destination_is_not_touched() {
    let dir = tempfile::tempdir().unwrap();
    let dest = dir.path().join("out");
    fs::create_dir(&dest).unwrap();
    fs::write(dest.join("mine"), "mine").unwrap();
    let error = extract(Tar::default().file("a").packed().as_slice(), &dest, &Limits::default()).unwrap_err();
    assert!(!error.is_in_the_archive(), "{error}");
    assert_eq!(fs::read_to_string(dest.join("mine")).unwrap(), "mine");
}

#[test]
fn hostile_names_are_refused() {
    let deep = vec!["d"; 33].join("/");
    let names: &[&[u8]] = &[
        b"../outside",
        b"a/../../outside",
        b"..",
        b"/etc/cron.d/job",
        b"//server/share",
        b"C:\\windows\\x",
        b"C:x",
        b"a\\..\\b",
        b"tests/\x1b[2Jx",
        b"tests/a\nb",
        b"NUL",
        b"tests/con.spec.js",
        b"tests/LPT1",
        b"dot.",
        b"dir ./x",
        b"blank ",
        b"./a",
        b"a//b",
        b"\xff\xfe.js",
        deep.as_bytes(),
    ];
    for name in names {
        let shown = String::from_utf8_lossy(name);
        let refused = unpack(&Tar::default().file("good.js").file(name).packed());
        assert!(matches!(refused, Err(Error::Name { .. })), "{shown:?}: {refused:?}");
    }
}

#[test]
fn a_nul_ends_a_name_and_does_not_hide_one() {
    // Tar names end at the first NUL, so what follows must not come back to life.
    assert_eq!(unpack(&Tar::default().file(b"a.js\0/../../evil").packed()).unwrap(), ["a.js"]);
    let hidden = Tar::default()
        .entry("pax", EntryType::XHeader, &pax(&[("path", "a.js\0../../evil")]))
        .file("b")
        .packed();
    assert!(matches!(
        unpack(&hidden),
        Err(Error::Name { source: BadName::Control, .. } | Error::Name { source: BadName::Dots, .. })
    ));
}

#[test]
fn everything_but_files_and_folders_is_refused() {
    let kinds = [
        (EntryType::Symlink, "symbolic link"),
        (EntryType::Link, "hard link"),
        (EntryType::Fifo, "named pipe"),
        (EntryType::Char, "device"),
        (EntryType::Block, "device"),
        (EntryType::GNULongName, "long name"),
        (EntryType::GNULongLink, "long name"),
        (EntryType::GNUSparse, "sparse"),
        (EntryType::XGlobalHeader, "PAX"),
        (EntryType::Continuous, "unknown"),
        (EntryType::new(b'Z'), "unknown"),
    ];
    for (kind, word) in kinds {
        let mut tar = Tar::default().file("good.js").entry("bad", kind, b"");
        let entry = &mut tar.0[1].0;
        entry.set_link_name("/etc/passwd").unwrap();
        entry.set_cksum();
        let error = unpack(&tar.packed()).unwrap_err();
        assert!(matches!(error, Error::Kind { .. }), "{kind:?}: {error}");
        assert!(error.to_string().contains(word), "{kind:?}: {error}");
        assert!(error.is_in_the_archive());
    }
}

#[test]
fn a_link_cannot_be_written_through() {
    // The classic: a link to the outside, then a file below it.
    let mut tar = Tar::default().entry("dir", EntryType::Symlink, b"");
    tar.0[0].0.set_link_name("/tmp").unwrap();
    tar.0[0].0.set_cksum();
    assert!(matches!(unpack(&tar.file("dir/evil").packed()), Err(Error::Kind { .. })));
}

#[test]
fn pax_headers_may_only_name_a_path() {
    for records in [
        &[("size", "99999")][..],
        &[("linkpath", "/etc/passwd")],
        &[("GNU.sparse.name", "x")],
        &[("path", "a"), ("path", "b")],
        &[("path", "a"), ("mtime", "1")],
        &[],
    ] {
        let tar = Tar::default().entry("pax", EntryType::XHeader, &pax(records)).file("a").packed();
        assert!(matches!(unpack(&tar), Err(Error::Damaged(_))), "{records:?}");
    }
    let twice = Tar::default()
        .entry("pax", EntryType::XHeader, &pax(&[("path", "a")]))
        .entry("pax", EntryType::XHeader, &pax(&[("path", "b")]))
        .file("c");
    assert!(matches!(unpack(&twice.packed()), Err(Error::Kind { .. })));
    let endless = Tar::default().entry("pax", EntryType::XHeader, &vec![b'1'; 100_000]).file("a");
    assert!(matches!(unpack(&endless.packed()), Err(Error::Damaged(_))));
}

#[test]
fn names_that_are_one_elsewhere_are_refused() {
    for (first, second) in
        [("a.js", "a.js"), ("tests/A.js", "tests/a.js"), ("Tests/a.js", "tests/b.js"), ("Ä", "ä")]
    {
        let refused = unpack(&Tar::default().file(first).file(second).packed());
        assert!(matches!(refused, Err(Error::Duplicate { .. })), "{first} {second}: {refused:?}");
    }
    assert!(matches!(unpack(&Tar::default().file("a").file("a/b").packed()), Err(Error::BelowFile { .. })));
    let over = Tar::default().file("a/b").file("a").packed();
    assert!(matches!(unpack(&over), Err(Error::Duplicate { .. })));
    let folder_twice = Tar::default().file("a/b").entry("a/", EntryType::Directory, b"").packed();
    assert_eq!(unpack(&folder_twice).unwrap(), ["a/b"]);
}

#[test]
fn limits_are_held_while_reading() {
    let many = (0..11).fold(Tar::default(), |tar, n| tar.file(format!("f{n}"))).packed();
    let mut state = 1_u64;
    let mut random = || {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
        (state >> 56) as u8
    };
    let noise: Vec<u8> = (0..100_000).map(|_| random()).collect();
    let heavy = Tar::default().entry("noise", EntryType::Regular, &noise).packed();
    let wide = Limits { ratio: u64::MAX, ..small() };
    let long = Tar::default().entry("zeros", EntryType::Regular, &vec![0; 2 << 20]).packed();
    let bomb = Tar::default().entry("bomb", EntryType::Regular, &vec![0; 512 << 10]).packed();
    for (packed, limits, word) in [
        (many, &small(), "more than 10 entries"),
        (heavy, &small(), "bytes packed"),
        (long, &wide, "bytes unpacked"),
        (bomb, &small(), "times its size"),
    ] {
        match unpack_within(&packed, limits) {
            Err(Error::TooLarge(what)) => assert!(what.contains(word), "{what}"),
            other => panic!("{word}: {other:?}"),
        }
    }
}

#[test]
fn a_bomb_is_refused_under_the_real_limits() {
    let bomb = Tar::default().entry("bomb", EntryType::Regular, &vec![0; 64 << 20]).packed();
    assert!(bomb.len() < 64 << 10);
    assert!(matches!(unpack(&bomb), Err(Error::TooLarge(_))));
}

#[test]
fn a_bomb_behind_the_end_of_the_tar_is_refused_too() {
    let mut plain = Tar::default().file("a").plain();
    plain.resize(plain.len() + (64 << 20), 0);
    assert!(matches!(unpack(&pack(&plain)), Err(Error::TooLarge(_))));
}

#[test]
fn a_header_that_lies_about_its_size_is_damage() {
    let mut tar = Tar::default().file("a");
    tar.0[0].0.set_size(1 << 40);
    tar.0[0].0.set_cksum();
    assert!(matches!(unpack(&tar.packed()), Err(Error::Damaged(_))));
}

#[test]
fn damage_is_told_from_content() {
    let good = Tar::default().file("a").entry("b", EntryType::Regular, &[7; 5000]).packed();
    for cut in [1, 3, good.len() / 2, good.len() - 1] {
        assert!(matches!(unpack(&good[..cut]), Err(Error::Damaged(_))), "cut at {cut}");
    }
    let mut flipped = good.clone();
    let middle = flipped.len() / 2;
    flipped[middle] ^= 0xff;
    assert!(matches!(unpack(&flipped), Err(Error::Damaged(_))));
    assert!(matches!(unpack(b"PK\x03\x04 this is a zip"), Err(Error::Damaged(_))));
    assert!(matches!(unpack(b"\x1f\x8b\x08 this is gzip"), Err(Error::Damaged(_))));
    assert!(matches!(unpack(&pack(b"this is no tar")), Err(Error::Damaged(_))));
    assert!(matches!(unpack(&pack(&[b'x'; 2048])), Err(Error::Damaged(_))));
}

#[test]
fn nothing_is_not_a_project() {
    for nothing in [
        &b""[..],
        &pack(b""),
        &Tar::default().packed(),
        &Tar::default().entry("d/", EntryType::Directory, b"").packed(),
    ] {
        let refused = unpack(nothing);
        assert!(matches!(refused, Err(Error::Empty | Error::Damaged(_))), "{refused:?}");
    }
}
