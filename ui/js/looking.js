// Stop is there at once, and so are the words, when data are looked at.
() => [{visible: true, __type__: 'update'},
  '<p class="note" role="status">Waiting for the machine.</p>']
