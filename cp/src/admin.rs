//! stub
use crate::crew::Crew;
use crate::lifecycle::Lifecycle;
use crate::notice::Notice;
use crate::world::World;
/// stub
pub fn spawn<W: World>(_world: &W, _crew: &Crew, _listener: W::Listener, _lifecycle: Notice<Lifecycle>) {}
