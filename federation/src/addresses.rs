//! Which addresses this server connects to when another server's name leads there: those of the public internet.
//!
//! Asked for the very address that a connection is made to, so that no second look-up and no redirect gets around it.
//! May import: ipnet.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use ipnet::{IpNet, Ipv4Net, Ipv6Net};

/// IPv4 addresses that are not of the public internet, or lead to the inside of a data centre.
/// Source: <https://www.iana.org/assignments/iana-ipv4-special-registry/>
const INTERNAL_V4: [Ipv4Net; 17] = [
    v4([0, 0, 0, 0], 8),        // this network, unspecified
    v4([10, 0, 0, 0], 8),       // private
    v4([100, 64, 0, 0], 10),    // carrier-grade NAT, metadata of one provider
    v4([127, 0, 0, 0], 8),      // loopback
    v4([168, 63, 129, 16], 32), // platform services of one provider, on a public address
    v4([169, 254, 0, 0], 16),   // link-local, metadata of most providers
    v4([172, 16, 0, 0], 12),    // private
    v4([192, 0, 0, 0], 24),     // protocol assignments, metadata of one provider
    v4([192, 0, 2, 0], 24),     // documentation
    v4([192, 31, 196, 0], 24),  // AS112
    v4([192, 52, 193, 0], 24),  // automatic multicast tunnels
    v4([192, 88, 99, 0], 24),   // 6to4 relays
    v4([192, 168, 0, 0], 16),   // private
    v4([198, 18, 0, 0], 15),    // benchmarks
    v4([198, 51, 100, 0], 24),  // documentation
    v4([203, 0, 113, 0], 24),   // documentation
    v4([224, 0, 0, 0], 3),      // multicast, reserved, broadcast
];

/// The one range from which public IPv6 addresses are given out. What is outside it is refused: loopback, unspecified, ULA,
/// link-local, site-local, multicast, IPv4 in IPv6, NAT64, discard.
/// Source: <https://www.iana.org/assignments/ipv6-address-space/>
const PUBLIC_V6: Ipv6Net = v6([0x2000, 0], 3);

/// What is not public inside that range.
/// Source: <https://www.iana.org/assignments/iana-ipv6-special-registry/>
const INTERNAL_V6: [Ipv6Net; 4] = [
    v6([0x2001, 0], 23),     // protocol assignments: Teredo, benchmarks, ORCHID
    v6([0x2001, 0xdb8], 32), // documentation
    v6([0x2002, 0], 16),     // 6to4: an IPv4 address inside
    v6([0x3fff, 0], 20),     // documentation
];

const fn v4([a, b, c, d]: [u8; 4], length: u8) -> Ipv4Net {
    Ipv4Net::new_assert(Ipv4Addr::new(a, b, c, d), length)
}

const fn v6([first, second]: [u16; 2], length: u8) -> Ipv6Net {
    Ipv6Net::new_assert(Ipv6Addr::new(first, second, 0, 0, 0, 0, 0, 0), length)
}

/// The addresses that may be connected to.
#[derive(Debug, Clone, Default)]
pub struct Addresses {
    exceptions: Vec<IpNet>,
}

impl Addresses {
    /// Public addresses, and the internal ones that an administrator named.
    pub fn with_exceptions(exceptions: Vec<IpNet>) -> Self {
        Self { exceptions }
    }

    /// Whether a connection to this address may be made. An IPv4 address written as IPv6 is judged as what it is.
    pub fn allow(&self, address: IpAddr) -> bool {
        let address = address.to_canonical();
        self.exceptions.iter().any(|net| net.contains(&address)) || is_public(address)
    }
}

fn is_public(address: IpAddr) -> bool {
    match address {
        IpAddr::V4(address) => !INTERNAL_V4.iter().any(|net| net.contains(&address)),
        IpAddr::V6(address) => PUBLIC_V6.contains(&address) && !INTERNAL_V6.iter().any(|net| net.contains(&address)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn address(text: &str) -> IpAddr {
        text.parse().unwrap()
    }

    /// S2S 3 the address that is connected to is checked.
    #[test]
    fn internal_addresses_are_refused() {
        let internal = [
            "0.0.0.0",
            "0.1.2.3",
            "10.1.2.3",
            "100.64.0.1",
            "100.100.100.200",
            "127.0.0.1",
            "127.255.0.1",
            "168.63.129.16",
            "169.254.169.254",
            "172.16.0.1",
            "172.31.255.255",
            "192.0.0.192",
            "192.0.2.1",
            "192.88.99.1",
            "192.168.0.1",
            "198.18.0.1",
            "198.19.255.255",
            "198.51.100.7",
            "203.0.113.9",
            "224.0.0.1",
            "239.1.1.1",
            "240.0.0.1",
            "255.255.255.255",
            "::",
            "::1",
            "::ffff:127.0.0.1",
            "::ffff:10.0.0.1",
            "::127.0.0.1",
            "64:ff9b::7f00:1",
            "64:ff9b:1::1",
            "100::1",
            "2001::1",
            "2001:0:4136:e378::1",
            "2001:db8::1",
            "2002:7f00:1::1",
            "3fff::1",
            "fc00::1",
            "fd00:ec2::254",
            "fe80::1",
            "febf::1",
            "fec0::1",
            "ff02::1",
            "4000::1",
            "5f00::1",
        ];
        for text in internal {
            assert!(!Addresses::default().allow(address(text)), "{text}");
        }
    }

    #[test]
    fn public_addresses_are_allowed() {
        let public = [
            "1.1.1.1",
            "9.255.255.255",
            "11.0.0.0",
            "100.63.255.255",
            "100.128.0.0",
            "126.1.1.1",
            "128.0.0.1",
            "172.15.255.255",
            "172.32.0.0",
            "192.167.255.255",
            "198.20.0.1",
            "223.255.255.255",
            "2001:4860:4860::8888",
            "2606:4700::1111",
            "2a00:1450::1",
            "::ffff:1.1.1.1",
        ];
        for text in public {
            assert!(Addresses::default().allow(address(text)), "{text}");
        }
    }

    #[test]
    fn exceptions_open_what_they_name_and_nothing_else() {
        let addresses = Addresses::with_exceptions(vec!["127.0.0.0/8".parse().unwrap(), "fd12::/16".parse().unwrap()]);
        for text in ["127.0.0.1", "::ffff:127.1.2.3", "fd12::1", "1.1.1.1"] {
            assert!(addresses.allow(address(text)), "{text}");
        }
        for text in ["10.0.0.1", "::1", "fd13::1", "169.254.169.254"] {
            assert!(!addresses.allow(address(text)), "{text}");
        }
    }
}
