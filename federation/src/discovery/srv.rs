//! The order in which the targets of SRV records are tried. May import: `dns`.

use crate::{clock::Ambient, discovery::dns::Service};

/// The services by priority, and by weighted lot among those of one priority; `None` when the service is decidedly not
/// offered (a record whose target is the root).
/// Source: <https://www.rfc-editor.org/rfc/rfc2782>
pub(super) fn ordered(mut services: Vec<Service>, ambient: &Ambient) -> Option<Vec<Service>> {
    services.retain(|service| !service.target.is_empty());
    // Records without weight stand before the others, so that they have a small chance.
    services.sort_by_key(|service| (service.priority, service.weight));
    let mut ordered = Vec::with_capacity(services.len());
    while let Some(first) = services.first() {
        let priority = first.priority;
        let rivals = services.iter().take_while(|service| service.priority == priority);
        let weights: u64 = rivals.clone().map(|service| u64::from(service.weight)).sum();
        let lot = ambient.below(weights + 1);
        let mut sum = 0;
        let chosen = rivals.into_iter().position(|service| {
            sum += u64::from(service.weight);
            sum >= lot
        });
        ordered.push(services.remove(chosen.unwrap_or(0)));
    }
    if ordered.is_empty() { None } else { Some(ordered) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{Lots, ambient_with};

    fn service(priority: u16, weight: u16, target: &str) -> Service {
        Service { priority, weight, port: 1, target: target.to_owned() }
    }

    fn order(services: Vec<Service>, lot: u64) -> Vec<String> {
        let ambient = ambient_with(Lots::always(lot));
        ordered(services, &ambient).unwrap().into_iter().map(|service| service.target).collect()
    }

    /// S2S 3 SRV by priority and weight.
    #[test]
    fn smaller_priorities_come_first() {
        let services = vec![service(20, 0, "late"), service(5, 0, "early"), service(10, 9, "middle")];
        assert_eq!(order(services, 3), ["early", "middle", "late"]);
    }

    /// S2S 3 SRV by priority and weight.
    #[test]
    fn among_one_priority_the_lot_falls_by_weight() {
        let services = || vec![service(1, 60, "heavy"), service(1, 20, "light"), service(1, 0, "none")];
        assert_eq!(order(services(), 0)[0], "none");
        assert_eq!(order(services(), 20)[0], "light");
        assert_eq!(order(services(), 21)[0], "heavy");
        assert_eq!(order(services(), 80)[0], "heavy");
    }

    /// S2S 3 SRV by priority and weight.
    #[test]
    fn the_root_as_target_means_no_service() {
        assert_eq!(ordered(vec![service(0, 0, "")], &ambient_with(Lots::always(0))), None);
    }
}
