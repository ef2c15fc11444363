//! `host:port`, as text: names are looked up when they are used, not here.

use std::net::Ipv6Addr;

/// The address of somebody else.
pub fn reachable(text: &str) -> Option<String> {
    parse(text).filter(|(_, port)| *port > 0).map(|_| text.to_owned())
}

/// An address of ours, where a port of 0 lets the kernel choose one.
pub(super) fn bindable(text: &str) -> Option<String> {
    parse(text).map(|_| text.to_owned())
}

/// What may be shown of a text that should be an address: somebody may have given a whole connection string.
pub(super) fn without_credentials(text: &str) -> String {
    match text.rsplit_once('@') {
        Some((_, host)) => format!("…@{host}"),
        None => text.to_owned(),
    }
}

fn parse(text: &str) -> Option<(&str, u16)> {
    let (host, port) = text.rsplit_once(':')?;
    let port = Some(port).filter(|port| port.bytes().all(|byte| byte.is_ascii_digit()))?.parse().ok()?;
    let valid = match host.strip_prefix('[').and_then(|host| host.strip_suffix(']')) {
        Some(address) => address.parse::<Ipv6Addr>().is_ok(),
        None => !host.is_empty() && host.chars().all(|c| c.is_ascii_alphanumeric() || "-._".contains(c)),
    };
    valid.then_some((host, port))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_is_a_host_and_a_port() {
        for text in ["127.0.0.1:6432", "[::1]:5432", "pg-1.workers_a.svc:5432"] {
            assert_eq!(reachable(text).as_deref(), Some(text));
        }
        for text in ["", "pg", ":5432", "pg:", "pg:65536", "pg:+1", "::1:5432", "[pg]:5432", "http://pg:80", "a b:1"] {
            assert_eq!(reachable(text), None, "{text}");
        }
    }

    #[test]
    fn the_kernel_may_choose_our_port_but_not_somebody_elses() {
        assert_eq!(bindable("[::]:0").as_deref(), Some("[::]:0"));
        for text in ["pg:0", "pg:00"] {
            assert_eq!(reachable(text), None);
        }
    }

    #[test]
    fn what_comes_before_an_at_sign_is_not_shown() {
        assert_eq!(without_credentials("postgres://app:hunter2@pg:5432/app"), "…@pg:5432/app");
        assert_eq!(without_credentials("pg"), "pg");
    }
}
