// Stop is on and the words are there at once, also for those who wait for somebody else's drawing.
() => [{interactive: true, __type__: 'update'},
  '<p class="note" role="status">Waiting for the machine.</p>']
