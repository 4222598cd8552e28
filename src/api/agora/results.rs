//! What became of each of several people to whom something is done, one after the other.

use ruma::OwnedUserId;

use super::error::AgoraError;
use crate::actions::ActionError;

/// What became of each so far. Of a single person a refusal is that of the call. Of several it is told of each; what is in the way of all, is told of those who
/// are left if something was done already, else it is a refusal of the call too: nothing is done that the answer does not tell.
pub(super) struct Results<'a, T> {
    people: &'a [OwnedUserId],
    told: Vec<Result<T, String>>,
}

impl<'a, T> Results<'a, T> {
    /// Of these people, nothing was done yet.
    pub(super) fn of(people: &'a [OwnedUserId]) -> Self {
        Self { people, told: Vec::with_capacity(people.len()) }
    }

    /// Takes what became of the next one, and says whether to go on.
    pub(super) fn take(&mut self, done: Result<T, ActionError>) -> Result<bool, AgoraError> {
        let error = match done {
            Ok(done) => {
                self.told.push(Ok(done));
                return Ok(true);
            }
            Err(error) => AgoraError::from(error),
        };
        let (goes_on, is_anything_done) = (error.is_about_one(), self.told.iter().any(Result::is_ok));
        if self.people.len() == 1 || !(goes_on || is_anything_done) {
            return Err(error);
        }
        let reason = error.told();
        let refused = if goes_on { self.told.len() + 1 } else { self.people.len() };
        self.told.resize_with(refused, || Err(reason.clone()));
        Ok(goes_on)
    }

    /// Each of the people, with what was done or why it was not.
    pub(super) fn each<O>(self, answer: impl Fn(&OwnedUserId, Result<T, String>) -> O) -> Vec<O> {
        self.people.iter().zip(self.told).map(|(person, told)| answer(person, told)).collect()
    }
}

#[cfg(test)]
mod tests {
    use rules::permission::Reason;
    use ruma::owned_user_id;

    use super::*;

    fn refused() -> ActionError {
        ActionError::RoomForbidden { reason: Reason::Membership, message: "not in this room".to_owned() }
    }

    fn told(results: Results<'_, ()>) -> Vec<bool> {
        results.each(|_, told| told.is_ok())
    }

    #[test]
    fn of_a_single_person_a_refusal_is_that_of_the_call() {
        let people = [owned_user_id!("@a:b")];
        assert!(Results::<()>::of(&people).take(Err(refused())).is_err());
        let mut results = Results::of(&people);
        assert!(results.take(Ok(())).unwrap());
        assert_eq!(told(results), [true]);
    }

    #[test]
    fn of_several_each_is_told_what_became_of_them() {
        let people = [owned_user_id!("@a:b"), owned_user_id!("@c:b"), owned_user_id!("@d:b")];
        let mut results = Results::of(&people);
        assert!(results.take(Err(refused())).unwrap() && results.take(Ok(())).unwrap());
        assert!(results.take(Err(refused())).unwrap());
        assert_eq!(told(results), [false, true, false]);
    }

    #[test]
    fn what_is_in_the_way_of_all_is_told_of_those_who_are_left_or_is_the_refusal_of_the_call() {
        let people = [owned_user_id!("@a:b"), owned_user_id!("@c:b"), owned_user_id!("@d:b")];
        let mut results = Results::<()>::of(&people);
        assert!(results.take(Err(refused())).unwrap());
        assert!(results.take(Err(ActionError::Busy)).is_err(), "nothing was done");
        let mut results = Results::of(&people);
        assert!(results.take(Ok(())).unwrap());
        assert!(!results.take(Err(ActionError::Busy)).unwrap(), "that is no use any more");
        assert_eq!(told(results), [true, false, false]);
    }
}
