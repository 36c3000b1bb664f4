//! What a shell and `man` are given of the command line.

use std::path::Path;
use std::process::Command;

use crate::rig::gateway;

/// What bash offers for the last of `words`, with the script that the program prints.
fn completed(script: &Path, words: &[&str]) -> Vec<String> {
    let count = words.len();
    let (last, before) = words.split_last().unwrap();
    let complete = format!(
        "source {} && COMP_WORDS=({}) && COMP_CWORD={} \
         && function_name=$(complete -p gateway | sed 's/.*-F \\([^ ]*\\).*/\\1/') \
         && $function_name gateway '{last}' '{}' && printf '%s\\n' \"${{COMPREPLY[@]}}\"",
        script.display(),
        words.join(" "),
        count - 1,
        before.last().unwrap(),
    );
    let output = Command::new("bash")
        .args(["--norc", "--noprofile", "-c", &complete])
        .output()
        .unwrap();
    assert!(output.status.success(), "{words:?}: {output:?}");
    let offered = String::from_utf8(output.stdout).unwrap();
    offered.lines().map(str::to_owned).collect()
}

#[test]
fn bash_completes_commands_and_options() {
    let directory = tempfile::tempdir().unwrap();
    let output = gateway(directory.path(), &[], &["completions", "bash"]);
    assert!(output.status.success(), "{output:?}");
    let script = directory.path().join("gateway.bash");
    std::fs::write(&script, output.stdout).unwrap();
    let syntax = Command::new("bash").arg("-n").arg(&script).output();
    let syntax = syntax.unwrap();
    assert!(
        syntax.status.success() && syntax.stderr.is_empty(),
        "{syntax:?}"
    );
    for (words, offered) in [
        (&["gateway", "ke"][..], "keys"),
        (&["gateway", "keys", "rev"][..], "revoke"),
        (&["gateway", "keys", "create", "--cons"][..], "--consumer"),
        (&["gateway", "completions", "zs"][..], "zsh"),
    ] {
        assert_eq!(completed(&script, words), [offered], "{words:?}");
    }
}

#[test]
fn every_shell_that_is_offered_has_a_script() {
    for shell in ["bash", "elvish", "fish", "powershell", "zsh"] {
        // Not by the rig, which takes the program's words for a library's: PowerShell has a `StartsWith(` too.
        let output = Command::new(env!("CARGO_BIN_EXE_gateway"))
            .args(["completions", shell])
            .output()
            .unwrap();
        let script = String::from_utf8(output.stdout).unwrap();
        assert!(
            output.status.success() && script.contains("revoke"),
            "{shell}"
        );
    }
    let output = gateway(Path::new("/"), &[], &["completions", "csh"]);
    assert_eq!(output.status.code(), Some(2), "{output:?}");
}

#[test]
fn every_command_has_a_manual_page_that_groff_sets_without_a_warning() {
    let directory = tempfile::tempdir().unwrap();
    let pages = directory.path().join("share/man/man1");
    let output = gateway(directory.path(), &[], &["man", pages.to_str().unwrap()]);
    assert!(output.status.success(), "{output:?}");
    let mut names = Vec::new();
    for entry in std::fs::read_dir(&pages).unwrap() {
        let page = entry.unwrap().path();
        let set = Command::new("groff")
            .args(["-Kutf8", "-man", "-Tutf8", "-ww", "-P-cbou"])
            .arg(&page)
            .output()
            .unwrap();
        let text = String::from_utf8_lossy(&set.stdout);
        assert!(
            set.status.success() && set.stderr.is_empty() && text.contains("SYNOPSIS"),
            "{}: {set:?}",
            page.display()
        );
        names.push(page.file_name().unwrap().to_str().unwrap().to_owned());
    }
    for name in ["gateway.1", "gateway-serve.1", "gateway-keys-revoke.1"] {
        assert!(names.iter().any(|found| found == name), "{name}: {names:?}");
    }
}

#[test]
fn a_directory_that_cannot_be_made_is_named() {
    let directory = tempfile::tempdir().unwrap();
    std::fs::write(directory.path().join("file"), "").unwrap();
    let output = gateway(directory.path(), &[], &["man", "file/man1"]);
    assert_eq!(output.status.code(), Some(1), "{output:?}");
    let message = String::from_utf8_lossy(&output.stderr);
    assert!(message.contains("file/man1"), "{message}");
}
