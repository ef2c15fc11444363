//! How clients reach pods: where a new connection goes, and whose log tells of it.
//!
//! A Service is what each node has of it: a table of endpoints that is changed some time after the pods have. Nothing stands in
//! the way of a connection; where it goes is decided when it is opened, as by kube-proxy.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard};

use super::pod;
use crate::cast::history::Recorder;
use crate::scenario::SessionAffinity;

/// How clients reach pods.
#[derive(Clone)]
pub enum Way {
    /// There is one pod.
    Direct(Endpoint),
    /// There are several.
    Service(Service),
}

/// Where a connection goes.
#[derive(Clone)]
pub struct Endpoint {
    /// Such as `pod:6432`.
    pub address: String,
    /// Where what happens to it is told.
    pub recorder: Recorder,
}

impl Way {
    /// To the only pod.
    pub fn direct(recorder: Recorder) -> Way {
        Way::Direct(Endpoint { address: pod::address(pod::NAME), recorder })
    }

    /// Where the next connection of somebody goes, by a random number. None: nobody is there, and it is refused.
    pub(crate) fn next(&self, who: &str, random: u64) -> Option<Endpoint> {
        match self {
            Way::Direct(endpoint) => Some(endpoint.clone()),
            Way::Service(service) => service.route(who, random),
        }
    }

    /// Where is told what is about no connection.
    pub(crate) fn recorder(&self) -> &Recorder {
        match self {
            Way::Direct(endpoint) => &endpoint.recorder,
            Way::Service(service) => &service.recorder,
        }
    }
}

/// The Service in front of several pods.
#[derive(Clone)]
pub struct Service {
    recorder: Recorder,
    affinity: SessionAffinity,
    table: Arc<Mutex<Table>>,
}

#[derive(Default)]
struct Table {
    /// Who is routed to, by the pods' numbers.
    endpoints: BTreeMap<u32, Routed>,
    /// Where somebody was sent last.
    last: BTreeMap<String, u32>,
}

struct Routed {
    endpoint: Endpoint,
    condition: Condition,
}

/// The conditions of an endpoint, as far as nodes route by them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Condition {
    /// Ready: new connections go there.
    Ready,
    /// It terminates and still says that it is ready: new connections go there where nobody else is ready.
    Serving,
}

impl Service {
    pub(crate) fn new(recorder: Recorder, affinity: SessionAffinity) -> Service {
        Service { recorder, affinity, table: Arc::default() }
    }

    /// From now on a pod is routed to under this condition, or no more.
    pub(crate) fn set(&self, number: u32, recorder: &Recorder, condition: Option<Condition>) {
        let endpoint = Endpoint { address: pod::address(pod::name(number)), recorder: recorder.clone() };
        let mut table = self.table();
        match condition {
            Some(condition) => _ = table.endpoints.insert(number, Routed { endpoint, condition }),
            None => _ = table.endpoints.remove(&number),
        }
    }

    /// A pod that terminates says that it is not ready: only matters where nobody else is.
    pub(crate) fn serves_no_more(&self, number: u32) {
        let mut table = self.table();
        if table.endpoints.get(&number).is_some_and(|routed| routed.condition == Condition::Serving) {
            table.endpoints.remove(&number);
        }
    }

    fn route(&self, who: &str, random: u64) -> Option<Endpoint> {
        let mut table = self.table();
        let of = |condition| table.endpoints.iter().filter(move |(_, routed)| routed.condition == condition);
        let mut eligible: Vec<u32> = of(Condition::Ready).map(|(number, _)| *number).collect();
        if eligible.is_empty() {
            eligible = of(Condition::Serving).map(|(number, _)| *number).collect();
        }
        let stays =
            table.last.get(who).filter(|last| self.affinity == SessionAffinity::ClientIp && eligible.contains(last));
        let place = usize::try_from(random % eligible.len().max(1) as u64).expect("as small as its bound");
        let number = stays.copied().or_else(|| eligible.get(place).copied())?;
        if self.affinity == SessionAffinity::ClientIp {
            table.last.insert(who.to_owned(), number);
        }
        table.endpoints.get(&number).map(|routed| routed.endpoint.clone())
    }

    fn table(&self) -> MutexGuard<'_, Table> {
        self.table.lock().expect("nothing panics while it holds the table")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn service(affinity: SessionAffinity, ready: &[u32]) -> Service {
        let service = Service::new(Recorder::default(), affinity);
        ready.iter().for_each(|number| service.set(*number, &service.recorder, Some(Condition::Ready)));
        service
    }

    fn goes(service: &Service, who: &str, random: u64) -> Option<String> {
        service.route(who, random).map(|endpoint| endpoint.address)
    }

    #[test]
    fn a_connection_goes_to_any_ready_pod_and_where_none_is_to_one_that_terminates_and_serves() {
        let service = service(SessionAffinity::None, &[1, 2]);
        assert_eq!([0, 1].map(|random| goes(&service, "a", random).unwrap()), ["pod-1:6432", "pod-2:6432"]);
        service.set(1, &service.recorder, Some(Condition::Serving));
        assert_eq!([0, 1].map(|random| goes(&service, "a", random).unwrap()), ["pod-2:6432", "pod-2:6432"]);
        service.set(2, &service.recorder, None);
        assert_eq!(goes(&service, "a", 1).unwrap(), "pod-1:6432");
        service.serves_no_more(1);
        assert_eq!(goes(&service, "a", 1), None);
    }

    #[test]
    fn with_affinity_somebody_stays_where_it_was_sent_while_that_is_ready() {
        let service = service(SessionAffinity::ClientIp, &[1, 2, 3]);
        assert_eq!([1, 0, 2].map(|random| goes(&service, "a", random).unwrap()), ["pod-2:6432"; 3]);
        assert_eq!(goes(&service, "b", 0).unwrap(), "pod-1:6432");
        service.set(2, &service.recorder, None);
        assert_eq!([1, 0].map(|random| goes(&service, "a", random).unwrap()), ["pod-3:6432"; 2]);
    }
}
