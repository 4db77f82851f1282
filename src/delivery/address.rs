//! The address guard: which addresses a delivery may connect to.
//!
//! Webhook URLs come from callers, so without a guard anyone could make the service talk to its own network. [`is_allowed`] is the
//! rule, [`AddressGuard`] the rule with this service's settings. The guard runs on addresses, never on names: whoever connects
//! resolves first, checks every answer, and connects to an address that was checked.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use ipnet::{IpNet, Ipv4Net, Ipv6Net};

/// Networks that the operator opened although they are not public.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct AllowList(Vec<IpNet>);

impl AllowList {
    /// Opens `networks`.
    pub fn new(networks: Vec<IpNet>) -> Self {
        Self(networks)
    }

    fn contains(&self, address: IpAddr) -> bool {
        self.0.iter().any(|network| network.contains(&address))
    }
}

/// Why a target is refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Blocked {
    /// The address is not a public unicast address, and no setting opens it.
    #[error("the address is not public, and `webhooks.allow_networks` does not open it")]
    Address,
    /// The port is below 1024 and neither 80 nor 443.
    #[error("the port is neither 80, 443 nor 1024 or higher")]
    Port,
    /// The target is this service itself.
    #[error("the address is the service's own")]
    OwnListener,
}

/// The rule with this service's settings.
#[derive(Debug, Clone, Default)]
pub struct AddressGuard {
    allow: AllowList,
    listeners: Vec<SocketAddr>,
}

impl AddressGuard {
    /// A guard that opens `allow` and keeps deliveries away from `listeners`, the addresses that this service listens on.
    pub fn new(allow: AllowList, listeners: Vec<SocketAddr>) -> Self {
        Self { allow, listeners }
    }

    /// Whether a delivery may connect to `target`.
    pub fn check(&self, target: SocketAddr) -> Result<(), Blocked> {
        let address = embedded_v4(target.ip());
        if !is_allowed_port(target.port()) {
            return Err(Blocked::Port);
        }
        if !is_allowed(address, &self.allow) {
            return Err(Blocked::Address);
        }
        let own = |listener: &SocketAddr| listener.port() == target.port() && listener.ip() == address;
        if self.listeners.iter().any(own) && !self.allow.contains(address) { Err(Blocked::OwnListener) } else { Ok(()) }
    }

    /// Whether a connection that stands leads back into this service. A listener on every interface has addresses that only show
    /// here: both ends of such a connection carry the same one.
    pub fn check_connected(&self, local: SocketAddr, peer: SocketAddr) -> Result<(), Blocked> {
        let address = embedded_v4(peer.ip());
        let own = |listener: &SocketAddr| listener.port() == peer.port() && listener.ip().is_unspecified();
        if embedded_v4(local.ip()) == address && self.listeners.iter().any(own) && !self.allow.contains(address) {
            Err(Blocked::OwnListener)
        } else {
            Ok(())
        }
    }
}

/// Whether `port` is one that web servers use.
pub fn is_allowed_port(port: u16) -> bool {
    matches!(port, 80 | 443 | 1024..)
}

/// Whether `address` is public unicast or opened by `allow`.
pub fn is_allowed(address: IpAddr, allow: &AllowList) -> bool {
    let address = embedded_v4(address);
    let public = match address {
        IpAddr::V4(address) => is_public_v4(address),
        IpAddr::V6(address) => is_public_v6(address),
    };
    public || allow.contains(address)
}

/// The IPv4 address that an IPv4-mapped (RFC 4291) or NAT64 (RFC 6052) address leads to; any other address as it is.
fn embedded_v4(address: IpAddr) -> IpAddr {
    let IpAddr::V6(v6) = address else { return address };
    if NAT64.contains(&v6) {
        let [.., a, b, c, d] = v6.octets();
        return IpAddr::V4(Ipv4Addr::new(a, b, c, d));
    }
    v6.to_ipv4_mapped().map_or(address, IpAddr::V4)
}

fn is_public_v4(address: Ipv4Addr) -> bool {
    !REFUSED_V4.iter().any(|network| network.contains(&address))
}

fn is_public_v6(address: Ipv6Addr) -> bool {
    GLOBAL_UNICAST_V6.contains(&address) && !REFUSED_V6.iter().any(|network| network.contains(&address))
}

const fn v4(a: u8, b: u8, c: u8, d: u8, prefix: u8) -> Ipv4Net {
    Ipv4Net::new_assert(Ipv4Addr::new(a, b, c, d), prefix)
}

const fn v6(first: u16, second: u16, prefix: u8) -> Ipv6Net {
    Ipv6Net::new_assert(Ipv6Addr::new(first, second, 0, 0, 0, 0, 0, 0), prefix)
}

/// What RFC 6890 and its successors set apart, and metadata services on addresses that look public.
const REFUSED_V4: [Ipv4Net; 16] = [
    v4(0, 0, 0, 0, 8),        // this network
    v4(10, 0, 0, 0, 8),       // private
    v4(100, 64, 0, 0, 10),    // carrier-grade NAT
    v4(127, 0, 0, 0, 8),      // loopback
    v4(168, 63, 129, 16, 32), // Azure's platform services
    v4(169, 254, 0, 0, 16),   // link-local, cloud metadata
    v4(172, 16, 0, 0, 12),    // private
    v4(192, 0, 0, 0, 24),     // protocol assignments
    v4(192, 0, 2, 0, 24),     // documentation
    v4(192, 88, 99, 0, 24),   // 6to4 relays
    v4(192, 168, 0, 0, 16),   // private
    v4(198, 18, 0, 0, 15),    // benchmarking
    v4(198, 51, 100, 0, 24),  // documentation
    v4(203, 0, 113, 0, 24),   // documentation
    v4(224, 0, 0, 0, 4),      // multicast
    v4(240, 0, 0, 0, 4),      // reserved, broadcast
];

/// Everything outside of this is unspecified, loopback, IPv4-compatible, unique local, link-local, multicast or unassigned.
const GLOBAL_UNICAST_V6: Ipv6Net = v6(0x2000, 0, 3);

/// What is set apart within the global unicast range.
const REFUSED_V6: [Ipv6Net; 4] = [
    v6(0x2001, 0, 23),      // protocol assignments, Teredo and benchmarking among them
    v6(0x2001, 0x0db8, 32), // documentation
    v6(0x2002, 0, 16),      // 6to4
    v6(0x3fff, 0, 20),      // documentation
];

const NAT64: Ipv6Net = Ipv6Net::new_assert(Ipv6Addr::new(0x64, 0xff9b, 0, 0, 0, 0, 0, 0), 96);

#[cfg(test)]
mod tests {
    use super::*;

    fn address(text: &str) -> IpAddr {
        text.parse().expect("an address")
    }

    fn allow(networks: &[&str]) -> AllowList {
        AllowList::new(networks.iter().map(|network| network.parse().expect("a network")).collect())
    }

    #[test]
    fn public_addresses_are_allowed() {
        for text in [
            "1.1.1.1",
            "8.8.8.8",
            "9.255.255.255",
            "11.0.0.0",
            "100.63.255.255",
            "100.128.0.0",
            "126.255.255.255",
            "128.0.0.0",
            "168.63.129.15",
            "168.63.129.17",
            "169.253.255.255",
            "169.255.0.0",
            "172.15.255.255",
            "172.32.0.0",
            "191.255.255.255",
            "192.0.1.0",
            "192.0.3.0",
            "192.167.255.255",
            "192.169.0.0",
            "198.17.255.255",
            "198.20.0.0",
            "203.0.112.255",
            "203.0.114.0",
            "223.255.255.255",
            "2606:4700::1111",
            "2001:200::1",
            "2a00:1450::1",
            "3ffe::1",
            "::ffff:8.8.8.8",
            "64:ff9b::8.8.8.8",
        ] {
            assert!(is_allowed(address(text), &AllowList::default()), "{text} was refused");
        }
    }

    #[test]
    fn addresses_that_are_not_public_are_refused() {
        for text in [
            "0.0.0.0",
            "0.255.255.255",
            "10.0.0.0",
            "10.255.255.255",
            "100.64.0.0",
            "100.100.100.200",
            "100.127.255.255",
            "127.0.0.1",
            "127.255.255.255",
            "168.63.129.16",
            "169.254.0.0",
            "169.254.169.254",
            "172.16.0.0",
            "172.31.255.255",
            "192.0.0.1",
            "192.0.0.192",
            "192.0.2.1",
            "192.88.99.1",
            "192.168.0.0",
            "192.168.255.255",
            "198.18.0.0",
            "198.19.255.255",
            "198.51.100.7",
            "203.0.113.9",
            "224.0.0.1",
            "239.255.255.255",
            "240.0.0.1",
            "255.255.255.255",
            "::",
            "::1",
            "::127.0.0.1",
            "::8.8.8.8",
            "::ffff:127.0.0.1",
            "::ffff:10.1.2.3",
            "::ffff:169.254.169.254",
            "64:ff9b::10.0.0.1",
            "64:ff9b::a9fe:a9fe",
            "64:ff9b:1::8.8.8.8",
            "100::1",
            "2001::1",
            "2001:0:7f00:1::1",
            "2001:2::1",
            "2001:10::1",
            "2001:db8::1",
            "2002:7f00:1::1",
            "2002:0808:0808::1",
            "3fff::1",
            "5f00::1",
            "fc00::1",
            "fd00:ec2::254",
            "fe80::1",
            "fec0::1",
            "ff02::1",
        ] {
            assert!(!is_allowed(address(text), &AllowList::default()), "{text} was allowed");
        }
    }

    #[test]
    fn a_setting_opens_its_network_only_in_every_form_of_an_address() {
        let list = allow(&["127.0.0.0/8", "fd00:1::/32"]);
        for text in ["127.0.0.1", "::ffff:127.0.0.1", "64:ff9b::7f00:1", "fd00:1::9"] {
            assert!(is_allowed(address(text), &list), "{text} was refused");
        }
        for text in ["10.0.0.1", "::1", "fd00:2::9", "2002:7f00:1::1", "::127.0.0.1"] {
            assert!(!is_allowed(address(text), &list), "{text} was allowed");
        }
    }

    #[test]
    fn low_ports_are_refused_but_those_of_the_web() {
        for (port, allowed) in
            [(0, false), (22, false), (25, false), (80, true), (443, true), (1023, false), (1024, true), (65535, true)]
        {
            assert_eq!(is_allowed_port(port), allowed, "{port}");
        }
        let guard = AddressGuard::new(allow(&["127.0.0.0/8"]), Vec::new());
        assert_eq!(guard.check("127.0.0.1:25".parse().expect("a socket address")), Err(Blocked::Port));
    }

    #[test]
    fn the_services_own_listeners_are_refused_unless_opened() {
        let socket = |text: &str| text.parse::<SocketAddr>().expect("a socket address");
        let listeners = vec![socket("8.8.8.8:8080"), socket("0.0.0.0:9090")];
        let guard = AddressGuard::new(AllowList::default(), listeners.clone());
        assert_eq!(guard.check(socket("8.8.8.8:8080")), Err(Blocked::OwnListener));
        assert_eq!(guard.check(socket("[::ffff:8.8.8.8]:8080")), Err(Blocked::OwnListener));
        assert_eq!(guard.check(socket("8.8.8.8:8081")), Ok(()));
        assert_eq!(guard.check_connected(socket("8.8.8.8:40000"), socket("8.8.8.8:9090")), Err(Blocked::OwnListener));
        assert_eq!(guard.check_connected(socket("8.8.4.4:40000"), socket("8.8.8.8:9090")), Ok(()));
        assert_eq!(guard.check_connected(socket("8.8.8.8:40000"), socket("8.8.8.8:9091")), Ok(()));
        let open = AddressGuard::new(allow(&["8.8.8.8/32"]), listeners);
        assert_eq!(open.check(socket("8.8.8.8:8080")), Ok(()));
        assert_eq!(open.check_connected(socket("8.8.8.8:40000"), socket("8.8.8.8:9090")), Ok(()));
    }
}
