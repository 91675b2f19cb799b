// Radios: the value is the chosen option. The template is drawn anew then, so the focus is put back; a value that
// comes from elsewhere is set by hand, since a radio that was clicked no longer heeds its attribute.
element.addEventListener('change', event => {
  if (event.target.type !== 'radio') return;
  props.value = event.target.value;
  trigger('input');
  setTimeout(() => element.querySelector('input:checked')?.focus({preventScroll: true}), 30);
});
watch('value', () => element.querySelectorAll('input').forEach(radio => radio.checked = radio.value === props.value));
