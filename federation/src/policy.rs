//! Which servers may talk to us, and we to them: all, listed ones, or none. It can be changed while the server runs.
//!
//! This is the policy of the whole server, beside the access lists of rooms. May import: ruma, `limits`.

use std::{collections::BTreeSet, sync::Arc};

use parking_lot::RwLock;
use ruma::ServerName;

use crate::limits::POLICY_NAMES_MAX;

/// Who is let in where no name is denied.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Admission {
    /// Every server.
    #[default]
    Open,
    /// Only servers on the list of allowed ones.
    Listed,
    /// No server.
    Closed,
}

/// Why a policy cannot be used.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum PolicyError {
    /// A list has more than [`POLICY_NAMES_MAX`] names.
    #[error("a list of servers has more than {POLICY_NAMES_MAX} names")]
    TooMany,
    /// Not a host name, nor `*.` and one.
    #[error("`{}` is neither the name of a server without port, nor `*.` and the end of one", .0.escape_debug())]
    Name(String),
}

/// The rules of a policy. A denied server stays out, whatever else is said.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Rules {
    admission: Admission,
    allowed: Names,
    denied: Names,
}

impl Rules {
    /// Names are host names without port, in any case: `example.org` is this host on any port, `*.example.org` every host
    /// below it.
    ///
    /// # Errors
    /// When a list is too long or holds something else.
    pub fn new<'a>(
        admission: Admission,
        allowed: impl IntoIterator<Item = &'a str>,
        denied: impl IntoIterator<Item = &'a str>,
    ) -> Result<Self, PolicyError> {
        Ok(Self { admission, allowed: Names::new(allowed)?, denied: Names::new(denied)? })
    }

    /// The server may talk to us.
    pub fn admits(&self, server: &ServerName) -> bool {
        let host = server.host().to_ascii_lowercase();
        !self.denied.holds(&host)
            && match self.admission {
                Admission::Open => true,
                Admission::Listed => self.allowed.holds(&host),
                Admission::Closed => false,
            }
    }
}

/// Host names and ends of host names, in lower case.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
struct Names {
    hosts: BTreeSet<String>,
    /// Without `*.`.
    ends: BTreeSet<String>,
}

impl Names {
    fn new<'a>(names: impl IntoIterator<Item = &'a str>) -> Result<Self, PolicyError> {
        let mut all = Self::default();
        for name in names {
            let (set, host) = match name.strip_prefix("*.") {
                Some(end) => (&mut all.ends, end),
                None => (&mut all.hosts, name),
            };
            let is_host =
                <&ServerName>::try_from(host).is_ok_and(|server| server.port().is_none() && server.host() == host);
            if !is_host {
                return Err(PolicyError::Name(name.to_owned()));
            }
            set.insert(host.to_ascii_lowercase());
            if all.hosts.len() + all.ends.len() > POLICY_NAMES_MAX {
                return Err(PolicyError::TooMany);
            }
        }
        Ok(all)
    }

    fn holds(&self, host: &str) -> bool {
        let parents = host.match_indices('.').filter_map(|(dot, _)| host.get(dot + 1..));
        self.hosts.contains(host) || parents.into_iter().any(|parent| self.ends.contains(parent))
    }
}

/// The policy in force. Clones share it.
#[derive(Debug, Clone, Default)]
pub struct Policy(Arc<RwLock<Arc<Rules>>>);

impl Policy {
    /// A policy that begins with these rules.
    pub fn new(rules: Rules) -> Self {
        Self(Arc::new(RwLock::new(Arc::new(rules))))
    }

    /// Other rules are in force from the next request on.
    pub fn set(&self, rules: Rules) {
        *self.0.write() = Arc::new(rules);
    }

    /// The rules in force.
    pub fn rules(&self) -> Arc<Rules> {
        Arc::clone(&self.0.read())
    }

    /// The server may talk to us now.
    pub fn admits(&self, server: &ServerName) -> bool {
        self.rules().admits(server)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn name(text: &str) -> &ServerName {
        text.try_into().unwrap()
    }

    #[test]
    fn a_policy_admits_by_mode_and_lists() {
        let lists = (["good.example", "*.friends.example", "1.2.3.4", "[::1]"], ["bad.example", "*.evil.example"]);
        let cases = [
            // server,                  open,  listed, closed
            ("any.example", true, false, false),
            ("good.example", true, true, false),
            ("GOOD.example:8448", true, true, false),
            ("sub.good.example", true, false, false),
            ("a.friends.example", true, true, false),
            ("a.b.friends.example:1", true, true, false),
            ("friends.example", true, false, false),
            ("notfriends.example", true, false, false),
            ("1.2.3.4:8448", true, true, false),
            ("[::1]:8448", true, true, false),
            ("bad.example", false, false, false),
            ("Bad.Example:80", false, false, false),
            ("x.evil.example", false, false, false),
            ("evil.example", true, false, false),
        ];
        for (server, open, listed, closed) in cases {
            for (admission, expected) in
                [(Admission::Open, open), (Admission::Listed, listed), (Admission::Closed, closed)]
            {
                let rules = Rules::new(admission, lists.0, lists.1).unwrap();
                assert_eq!(rules.admits(name(server)), expected, "{server} {admission:?}");
            }
        }
    }

    #[test]
    fn only_host_names_stand_in_a_list() {
        for bad in ["", "*", "*.", "a.example:8448", "a b", "*.*.example", "http://a.example", "a\n"] {
            let refused = Rules::new(Admission::Listed, [bad], []);
            assert_eq!(refused, Err(PolicyError::Name(bad.to_owned())), "{bad}");
        }
    }

    #[test]
    fn a_policy_changes_while_it_is_used() {
        let policy = Policy::default();
        let elsewhere = policy.clone();
        assert!(elsewhere.admits(name("a.example")));
        policy.set(Rules::new(Admission::Open, [], ["a.example"]).unwrap());
        assert!(!elsewhere.admits(name("a.example")));
    }
}
