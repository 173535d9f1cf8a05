"""How refusals open, in fourteen languages: regular expressions, one a line, on folded text.

*Openings* are no refusal by themselves (sorry, unfortunately, but); a *refusal* must follow them at
once, or open the answer. A word in <angle brackets> stands for the expression of that name.
"""

from __future__ import annotations

from typing import NamedTuple


class Phrases(NamedTuple):
    """One language: expressions for what may come first, and for the refusal itself."""

    openings: str
    refusals: str


NAMES = {
    "ai": "(?:ai|artificial intelligence|(?:large )?language model|llm)",
    "cannot": "(?:can't|cannot|can not|won't|will not)",
    "iam": "(?:i'm|i am)",
    "kann": "(?:ich (?:kann|darf|werde)|(?:kann|darf|werde) ich)(?: ihnen| dir| euch)?(?: leider)?",
    "peux": "je ne (?:peux|puis|suis)(?: malheureusement)?(?: pas)?(?: en mesure d[e'])?",
    "できない": "(?:する)?(?:こと)?(?:は|が)?(?:でき(?:ません|かねます)|(?:いた|致)しかねます)",
}

LANGUAGES = {
    "English": Phrases(
        r"""
        <iam>(?: \w+)? (?:sorry|afraid)
        (?:i )?(?:sincerely )?apologi[sz]e(?: for (?:any|the) \w+)?
        sorry|(?:my )?apologies|unfortunately|regrettably|no|hello|hi|but|however|that
        i regret(?: to (?:inform|tell) you| to say)?
        i understand [^.]{0,120}?(?:, but|\. however)
        thank(?:s| you) [^.!]{0,80}[.!]
        """,
        r"""
        <i can't> (?:help|assist)(?: you)?(?: with| in (?:this|that)|[.!]|$)
        <i can't> (?:fulfil+|answer) (?:this|that|your|the|such)
        <i can't> (?:comply|engage in|participate in)
        <i can't> (?:do that(?:[.!]|$)|(?:browse|access) the internet)
        <i can't> <give> (?:you )?(?:with )?(?:that|this|such|any)
        <i can't> <give> (?:you )?(?:with )?(?:information|instructions|guidance|content|assistance)
        <i can't> <give> (?:you )?(?:with )?(?:medical|legal|financial|explicit|harmful)
        as an? <ai>\b[^.]{0,60}?\b(?:i|my) (?:<cannot>|don't|do not|am (?:not|unable)|have no)
        as an? <ai>\b[^.]{0,60}?\b(?:i'm (?:not|unable)|i must decline)
        <iam> (?:just |only )?an? <ai>\b[^.]{0,80}?(?:<cannot>|don't|do not|unable|not able)
        i (?:must|have to|need to)(?: \w+ly)? decline (?:this|that|your) request
        i (?:must|have to|need to)(?: \w+ly)? decline to (?:help|assist|answer|provide|<give>)
        <iam> not comfortable (?:with )?(?:creat|writ|generat|provid|answer|help|assist|discuss)ing
        (?:this|that|it|your request|this request) (?:goes|is) against my (?:\w+ )?<rules>
        (?:this|that|it|your request|this request) (?:violates|would violate) my (?:\w+ )?<rules>
        (?:that|this|it)(?:'s| is) not something (?:that )?i (?:can|am able to|'m able to) \w+
        (?:that|this|it)(?:'s| is) something (?:that )?i (?:can't|cannot|am unable to) \w+
        it (?:is|would be) (?:not appropriate|inappropriate|unethical) for me to
        my <rules> (?:prevent|prohibit|do not allow|don't allow)
        """,
    ),
    "German": Phrases(
        r"""
        (?:es )?tut mir (?:sehr |wirklich )?leid|entschuldigung|leider|sorry|aber|dass
        ich (?:bedauere|bedaure|bitte um entschuldigung|entschuldige mich)
        """,
        r"""
        (?:dabei |damit |hierbei )?<kann>(?: dabei| damit| hierbei)?(?: leider)? nicht <helfen>
        (?:dabei |damit |hierbei )?<kann> bei \w+ \w+(?: leider)? nicht <helfen>
        <kann> (?:auf )?(?:diese|ihre|deine)[rmn]? <anfrage>[^.]{0,20} nicht
        <kann> (?:solche|diese[nrs]?) (?:inhalte?|texte?|art)[^.]{0,20} nicht
        ich bin (?:leider )?nicht in der lage,? (?:dir|ihnen|dabei|diese|solche|auf diese)
        <kann> (?:dazu )?(?:keine|solche|derartige) (?:informationen|inhalte|anleitung|auskunft)
        als (?:eine? )?(?:ki\b|ai\b|künstliche intelligenz)[^.]{0,80}\b(?:nicht|keine?n?)\b
        als (?:eine? )?(?:\w+ )?sprachmodell[^.]{0,80}\b(?:nicht|keine?n?)\b
        """,
    ),
    "French": Phrases(
        r"""
        (?:je suis |j'en suis )?(?:vraiment |sincèrement )?(?:désolée?|navrée?)
        malheureusement|je regrette|pardon|excusez-moi|je m'excuse|je vous prie de m'excuser|mais
        """,
        r"""
        <peux> ?(?:vous |t'|te )?(?:aider|assister)
        <peux> ?(?:répondre à|satisfaire|traiter|accéder à) (?:cette|votre|ta|une telle|ce type)
        <peux> ?(?:vous |te )?<donner> (?:cette|ces|ce type|ce genre|de tel)
        <peux> ?(?:vous |te )?<donner> (?:d'|des )informations?
        il m'est impossible de (?:vous aider|répondre à|fournir|satisfaire|donner suite)
        en tant qu(?:e |')(?:ia\b|intelligence artificielle)[^.]{0,80}\b(?:ne (?:peux|suis)|n'ai)
        en tant qu(?:e |')(?:modèle|assistant)\b[^.]{0,80}\b(?:ne (?:peux|suis)|n'ai)
        """,
    ),
    "Spanish": Phrases(
        r"""
        lo (?:siento|lamento)(?: mucho)?|disculp[ae]|perdón|perdona|pero|me temo que
        lamentablemente|desafortunadamente|por desgracia
        """,
        r"""
        no (?:puedo|podré|me es posible) (?:ayudar|asistir)(?:te|le|les|os)?(?: con| en|[.!]|$)
        no (?:te|le|os|les) puedo (?:ayudar|asistir)(?: con| en|[.!]|$)
        no puedo (?:cumplir|atender|responder)(?: con| a)? (?:esa|esta|tu|su|dicha) <solicitud>
        no puedo (?:procesar|completar|satisfacer) (?:esa|esta|tu|su|dicha) <solicitud>
        no puedo <dar>(?:te|le)? (?:es[ea]|est[ea]|contenido|información|instrucciones)
        como (?:una? )?(?:ia\b|inteligencia artificial)[^.]{0,80}\bno (?:puedo|tengo|soy|estoy)
        como (?:un )?(?:modelo de lenguaje|asistente)[^.]{0,80}\bno (?:puedo|tengo|soy|estoy)
        """,
    ),
    "Italian": Phrases(
        r"""
        mi (?:dispiace|scuso|rincresce)(?: molto)?|scusa(?:mi|te)?|(?:sono )?spiacente
        purtroppo|ma
        """,
        r"""
        non (?:posso|sono in grado di) (?:aiutar|assister)(?:ti|la|vi|e)
        non (?:posso|sono in grado di) (?:soddisfare|esaudire|elaborare) (?:quest|quell|tal|la)
        non (?:posso|sono in grado di) rispondere a(?:lla)? (?:quest|quell|tal|tua|sua)
        non (?:posso|sono in grado di) <dare> (?:quest|tal|informazioni|istruzioni|contenuti)
        (?:in quanto|come) (?:ia\b|intelligenza artificiale)[^.]{0,80}\bnon (?:posso|sono|ho)
        (?:in quanto|come) (?:modello linguistico|assistente)[^.]{0,80}\bnon (?:posso|sono|ho)
        """,
    ),
    "Portuguese": Phrases(
        r"""
        (?:eu )?(?:sinto|lamento)(?: muito)?|desculp[ae]|peço desculpas?|mas|me desculpe
        infelizmente|lamentavelmente
        """,
        r"""
        <não posso> (?:te |lhe )?(?:ajudar|auxiliar)(?:-te|-lo|-la)?(?: com| ness| niss|[.!]|$)
        <não posso> ajudá-l[oa](?: com| ness| niss|[.!]|$)
        <não posso> (?:cumprir|atender|responder|processar)(?: com)? ?(?:a |ao |à )?<o pedido>
        <não posso> <dar> (?:ess[ea]|est[ea]|ta[li]|conteúdo|informações|instruções)
        como (?:uma? )?(?:ia\b|inteligência artificial)[^.]{0,80}\bnão (?:posso|tenho|sou|consigo)
        como (?:um )?(?:modelo de linguagem|assistente)[^.]{0,80}\bnão (?:posso|tenho|sou)
        """,
    ),
    "Dutch": Phrases(
        r"het spijt me(?: zeer)?|sorry|helaas|mijn excuses|excuses|maar",
        r"""
        (?:daar |hier )?<ik kan>(?: hier| daar)?(?:mee|bij)?(?: helaas)? niet (?:mee |bij )?<helpen>
        <ik kan> (?:dit|deze|dat|uw|je) (?:verzoek|vraag) niet
        als (?:een )?(?:ai\b|taalmodel)[^.]{0,80}\b(?:niet|geen)\b
        """,
    ),
    "Polish": Phrases(
        r"(?:bardzo )?(?:przepraszam|przykro mi)|niestety|wybacz|ale",
        r"""
        nie (?:mogę|jestem w stanie) (?:ci |panu |pani )?(?:w tym |z tym )?pomóc
        nie (?:mogę|jestem w stanie) (?:spełnić (?:tej|twojej)|odpowiedzieć na to|udzielić t)
        jako (?:ai\b|model językowy|sztuczna)[^.]{0,80}\bnie (?:mogę|mam|jestem)
        """,
    ),
    "Russian": Phrases(
        r"""
        извините|простите|(?:мне )?(?:очень )?жаль|к сожалению|прошу прощения|сожалею|но
        приношу (?:свои )?извинения
        """,
        r"""
        <не могу> (?:вам |тебе )?(?:с этим |в этом )?помочь
        <не могу> (?:вам |тебе )?(?:ответить на (?:этот|ваш|данный)|обсуждать|участвовать)
        <не могу> (?:выполнить|предоставить|создать) (?:эт|ваш|данн|так|вам|информац|инструкц)
        (?:я )?вынужден[аы]? отказать
        как (?:искусственный|(?:большая )?языковая|ии\b)[^.]{0,80}\bне (?:могу|имею|способ)
        """,
    ),
    "Chinese": Phrases(
        r"""
        (?:非常|很|真的|十分|真)?(?:抱歉|对不起|對不起|不好意思|遗憾|遺憾)
        请原谅|請原諒|但是|但|不过|不過
        """,
        r"""
        <我不能>(?:协助|協助|帮助|幫助|帮|幫)(?:你|您|完成|处理|這|这|$|[。.!])
        <我不能>(?:满足|滿足|完成|执行|執行|处理|處理)<这个>[^。]{0,4}(?:请求|請求|要求)
        <我不能>(?:回答|回应|回應|讨论|討論)(?:<这个>|相关|相關)
        <这个>个?(?:问题|問題|请求|請求|要求)我?(?:无法|無法|不能)(?:回答|提供|满足|滿足|完成)
        <我不能>提供[^。]{0,12}(?:信息|资讯|資訊|帮助|幫助|内容|內容|协助|協助)
        <我不能>提供[^。]{0,12}(?:建议|建議|指导|指導|方法)
        (?:作为|作為|身为)[^。]{0,4}(?:ai|人工智|语言模型|語言模型)[^。]{0,30}(?:无法|無法|不能|沒有|没有|不会)
        """,
    ),
    "Japanese": Phrases(
        r"""
        (?:大変|誠に|まことに)?申し訳(?:ありません|ございません|ない)(?:が|ですが|けど)?
        (?:すみません|すいません|ごめんなさい|恐れ入ります)(?:が)?|残念ながら|あいにく(?:ですが)?
        """,
        r"""
        (?:[^。]{0,20}[をはにの])?(?:お手伝い|お力添え|お力になる|ご協力)<できない>
        (?:その|この)?(?:ような)?(?:ご)?(?:要望|依頼|リクエスト|質問|要求)には?(?:お答え|お応え|回答|対応)<できない>
        (?:その|この)ような(?:情報|内容|コンテンツ)[^。]{0,10}(?:提供|作成|生成)<できない>
        [^。]{0,12}お力になれません
        (?:私は)?(?:ai|人工知能|言語モデル)(?:として|なので|ですので)[^。]{0,40}(?:ません|ない)
        """,
    ),
    "Korean": Phrases(
        r"""
        (?:정말 |대단히 )?(?:죄송|미안)(?:합니다만|합니다|하지만)
        안타깝게도|유감스럽게도|하지만
        """,
        r"""
        [^.]{0,30}(?:도와 ?드릴|도움을 드릴|답변(?:을)? ?드릴|응할|들어드릴) 수(?:가|는)? 없
        [^.]{0,12}요청[을에은] [^.]{0,12} 수(?:가|는)? 없
        (?:저는 )?(?:ai|인공지능|언어 모델)(?:로서|이기 때문에|이므로)[^.]{0,40}(?:없|않|못)
        """,
    ),
    "Turkish": Phrases(
        r"(?:çok )?üzgünüm|maalesef|ne yazık ki|özür dilerim|kusura bakmayın|ama|ancak",
        r"""
        (?:bu \w+ )?(?:size |sana )?(?:bu konuda )?(?:yardımcı olam|yardım edem)(?:am|em|ı|i|a|e)
        bir (?:yapay zek|dil model)[^.]{0,40} olarak[^.]{0,60}(?:m[ae]m|m[ıi]yorum)
        """,
    ),
    "Arabic": Phrases(
        r"(?:أنا )?آسفة?|عذرا|عذرًا|عذراً|أعتذر|للأسف|ولكنني|ولكن|لكنني|لكن",
        r"""
        لا (?:أستطيع|يمكنني) (?:مساعدتك|المساعدة|تلبية|تقديم (?:هذه|مثل|هذا))
        لا (?:أستطيع|يمكنني) الإجابة (?:على|عن) (?:هذا|سؤالك)
        """,
    ),
}

NAMES |= {
    "i can't": "(?:i <cannot>(?: be able to)?(?: in good conscience)?"
    "|<iam> (?:unable|not able|not allowed|not permitted|not programmed) to)",
    "give": "(?:provide|create|generate|write|produce|share|give|offer|discuss|continue with)",
    "rules": "(?:guidelines|programming|principles|polic(?:y|ies))",
    "helfen": "(?:weiter)?(?:helfen|behilflich)",
    "anfrage": "(?:anfrage|bitte|frage|wunsch|aufforderung)",
    "donner": "(?:fournir|donner|créer|générer|écrire|rédiger|produire)",
    "solicitud": "(?:solicitud|petición|pregunta|consulta)",
    "dar": "(?:proporcionar|fornecer|dar|ofrecer|crear|criar|generar|gerar|escribir|escrever)",
    "dare": "(?:fornir(?:e|ti)|dar(?:e|ti)|creare|generare|scrivere|condividere)",
    "não posso": "(?:eu )?não (?:posso|consigo|poderei)",
    "o pedido": "(?:ess[ea]|est[ea]|seu|sua) (?:solicitação|pedido|pergunta)",
    "ik kan": "(?:ik kan|kan ik)(?: je| u| jou)?(?: helaas)?",
    "helpen": "(?:helpen|assisteren)",
    "не могу": "(?:я )?не (?:могу|смогу|в состоянии|имею возможности)",
    "我不能": "我?(?:无法|無法|不能|不便|没办法|沒辦法|没有办法)(?:[为為给給向对對在])?(?:你|您)?",
    "这个": "(?:这|這|此|该|該|您的|你的)",
}
