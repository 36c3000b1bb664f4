//! Who runs a command, for the audit: what the system says, and not `$USER`, which anyone sets.

use std::fs;

/// Where the system's users are listed.
const PASSWD: &str = "/etc/passwd";

/// The name of the user that the process really belongs to, or `uid NUMBER` where there is none on this machine.
pub(super) fn name() -> String {
    let id = rustix::process::getuid().as_raw();
    let users = fs::read(PASSWD).unwrap_or_default();
    name_in(&String::from_utf8_lossy(&users), id).unwrap_or_else(|| format!("uid {id}"))
}

/// The name in `passwd(5)` of the user with this number.
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
