//! User behind a command, for the audit: from the system, not from `$USER`, which anyone can set.

use std::fs;

/// User database of the system.
const PASSWD: &str = "/etc/passwd";

/// Returns the name of the real user, or `uid NUMBER` if this machine has none.
pub(super) fn name() -> String {
    let id = rustix::process::getuid().as_raw();
    let users = fs::read(PASSWD).unwrap_or_default();
    name_in(&String::from_utf8_lossy(&users), id).unwrap_or_else(|| format!("uid {id}"))
}

/// Returns the name of a user id in `passwd(5)` format.
fn name_in(users: &str, id: u32) -> Option<String> {
    let id = id.to_string();
    users.lines().find_map(|line| {
        let mut fields = line.split(':');
        let name = fields.next()?;
        let is_plain = !name.is_empty() && name.bytes().all(|byte| byte.is_ascii_graphic());
        (fields.nth(1)? == id && is_plain).then(|| name.to_owned())
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_user_has_the_name_that_the_system_has() {
        let users = "root:x:0:0:root:/root:/bin/bash\n# a remark\nann:x:1000:1000::/home/ann:/bin/sh\n:x:7:7::/:\n";
        for (id, name) in [
            (0, Some("root")),
            (1000, Some("ann")),
            (100, None),
            (7, None),
        ] {
            assert_eq!(name_in(users, id).as_deref(), name, "{id}");
        }
    }
}
