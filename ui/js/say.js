// Buttons with data-say: a click is a select event that carries what the button says.
element.addEventListener('click', event => {
  const button = event.target.closest('[data-say]');
  if (!button) return;
  trigger('select', {said: button.dataset.say});
});
