// One pair of pictures, arranged in several ways. Blind order and votes stay in the browser.
let chosen = 'sides', first = 'dense', was = false, held = false, fair = false;
const votes = {dense: 0, pruned: 0, same: 0, agree: 0, judged: 0};
const stage = () => element.querySelector('.stage');
const show = view => {
  const s = stage();
  if (!s) return;
  s.dataset.view = s.classList.contains('running') && view !== 'blind' ? 'sides' : view;
  s.querySelectorAll('.views [data-view]').forEach(
    b => b.setAttribute('aria-pressed', String(b.dataset.view === view)));
  arrange(s, s.dataset.view === 'blind' && s.dataset.told !== 'yes');
};
// The order is one of nodes, so that nobody is told by it; names come back when the view is left or the vote is cast.
const arrange = (s, blind) => {
  const sides = s.querySelector('.sides'), both = [...s.querySelectorAll('.side')];
  const left = '.' + (s.dataset.view === 'blind' ? first : 'dense');
  both.sort((a, b) => b.matches(left) - a.matches(left));
  [...both].reverse().forEach(side => sides.prepend(side));
  for (const side of both) {
    side.dataset.letter = side.matches('.' + first) ? 'A' : 'B';
    for (const image of side.querySelectorAll('img')) {
      image.dataset.alt ??= image.alt;
      image.alt = blind ? `picture ${side.dataset.letter}` : image.dataset.alt;
    }
  }
  const says = s.querySelector('.says');
  if (says && blind) says.textContent = 'Which side is better? The names come after your vote.' + (fair ? '' :
    ' You have seen this pair with its names, so the vote will not be counted: draw another in this view.');
  tell(s);
};
const tell = s => {
  const line = s.querySelector('.tally'), total = votes.dense + votes.pruned + votes.same;
  if (!line) return;
  line.textContent = !total ? '' : `Votes so far, ${total}: dense ${votes.dense}, pruned ${votes.pruned}, ` +
    `no difference ${votes.same}.` + (votes.judged ? ` emoji-clip (a proxy) agreed with ${votes.agree} of ` +
    `${votes.judged}.` : '');
};
const vote = (s, pick) => {
  const second = first === 'dense' ? 'pruned' : 'dense';
  const won = {a: first, b: second, same: 'same'}[pick], prefers = s.dataset.prefers;
  if (fair) {
    votes[won] += 1;
    if (won !== 'same' && prefers) { votes.judged += 1; votes.agree += won === prefers ? 1 : 0; }
  }
  s.dataset.told = 'yes';
  fair = false;
  s.querySelectorAll('[data-vote]').forEach(b => b.disabled = true);
  arrange(s, false);
  s.querySelector('.says').textContent = `A was ${first}, B was ${second}. ` +
    (won === 'same' ? 'You saw no difference.' : `You chose ${won}.`) + ' New seed and Generate draw the next pair.';
};
const shuffle = () => { first = Math.random() < 0.5 ? 'dense' : 'pruned'; };
const flip = on => {
  const s = stage();
  if (!s || held === on || s.classList.contains('running') || chosen === 'blind') return;
  held = on;
  s.dataset.view = on ? 'flip' : chosen;
  s.classList.toggle('flipped', on);
  s.querySelector('.hold')?.setAttribute('aria-pressed', String(on));
};
element.addEventListener('click', event => {
  const button = event.target.closest('button');
  if (!button) return;
  if (button.dataset.view) {
    if (button.dataset.view === 'blind' && chosen !== 'blind' && stage().dataset.told !== 'yes') shuffle();
    chosen = button.dataset.view;
    if (chosen !== 'blind') fair = false;
    show(chosen);
  }
  if (button.dataset.vote) vote(stage(), button.dataset.vote);
  if (button.matches('.hold') && event.detail === 0) flip(!held); // pressed by keyboard or voice: it stays
});
element.addEventListener('input', event => {
  if (event.target.matches('.wipe')) event.target.closest('.sides').style.setProperty('--at', event.target.value + '%');
});
element.addEventListener('pointerdown', event => { if (event.target.matches('.hold')) flip(true); });
document.addEventListener('pointerup', () => flip(false));
document.addEventListener('pointercancel', () => flip(false));
const typing = target => target.closest?.('textarea, select, [contenteditable], input:not([type=range], [type=radio])');
const swaps = event => event.key.toLowerCase() === 'f' && !event.ctrlKey && !event.metaKey && !event.altKey &&
  !typing(event.target) && element.offsetParent !== null;
document.addEventListener('keydown', event => { if (swaps(event)) { event.preventDefault(); flip(true); } });
document.addEventListener('keyup', event => { if (event.key.toLowerCase() === 'f') flip(false); });
window.addEventListener('blur', () => flip(false));
watch('value', () => {
  const s = stage(), runs = !!s && s.classList.contains('running');
  if (runs && !was) { shuffle(); fair = chosen === 'blind'; }
  was = runs;
  held = false;
  if (s) {
    delete s.dataset.told;
    s.querySelectorAll('img').forEach(image => delete image.dataset.alt);
    s.querySelectorAll('[data-vote]').forEach(b => b.disabled = false);
  }
  show(chosen);
});
